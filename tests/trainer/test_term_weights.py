"""The weights of both terms together, against trying them all."""

from itertools import product

import numpy as np
import pytest
import torch

from recbole_perpeft.evaluation.ranked_rows import model_scorer
from recbole_perpeft.model.score_parts import Part, only
from recbole_perpeft.trainer import term_weights
from recbole_perpeft.trainer.term_weights import AGAIN, FACTORS, FORMS, NEAR, _Round, find_term_weights
from tests.training import by_predict, mean_gain, scatter_groups


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBPR"])
def test_both_weights_together_are_the_best_of_those_near(prepare, monkeypatch, model):
    _, trainer, _, valid_data, _ = prepare(model=model)
    terms, before = list(trainer.model.score_terms.values()), (0.7, 0.2)

    for term, weight in zip(terms, before, strict=True):
        term.weight.fill_(weight)
    monkeypatch.setattr(_Round, "forms_together", lambda *_: None)
    find_term_weights(trainer, valid_data)
    found, gain = [float(term.weight) for term in terms], mean_gain(trainer, valid_data)
    gains = {}
    for factors in product(NEAR, NEAR):
        weights = [factor * weight for factor, weight in zip(factors, before, strict=True)]
        for term, weight in zip(terms, weights, strict=True):
            term.weight.fill_(weight)
        gains[tuple(weights)] = mean_gain(trainer, valid_data)
    assert len(set(gains.values())) > 1
    assert gain == pytest.approx(max(gains.values()), abs=1e-6)
    assert any(found == pytest.approx(tried) for tried in gains)


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBPR"])
def test_the_first_round_multiplies_both_weights_by_what_is_best(prepare, monkeypatch, model):
    _, trainer, _, valid_data, _ = prepare(model=model)
    scale, before = _Round.scale, []

    def watched(search):
        before.append([float(term.weight) for term in trainer.model.score_terms.values()])
        scale(search)

    monkeypatch.setattr(_Round, "scale", watched)
    for later in ("forms_together", "together"):
        monkeypatch.setattr(_Round, later, lambda *_: None)
    find_term_weights(trainer, valid_data)
    terms = list(trainer.model.score_terms.values())
    found, gain = [float(term.weight) for term in terms], mean_gain(trainer, valid_data)
    assert len(before) == 1
    assert any(before[0])
    gains = {}
    for factor in FACTORS:
        for term, weight in zip(terms, before[0], strict=True):
            term.weight.fill_(factor * weight)
        gains[factor] = mean_gain(trainer, valid_data)
    assert len(set(gains.values())) > 1
    assert gain == pytest.approx(max(gains.values()), abs=1e-6)
    weights = [[factor * weight for weight in before[0]] for factor in FACTORS]
    assert any(found == pytest.approx(tried) for tried in weights)


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBPR"])
def test_forms_are_those_that_are_best_with_each_other(prepare, monkeypatch, model):
    monkeypatch.setattr(_Round, "together", lambda *_: None)
    _, trainer, _, valid_data, _ = prepare(model=model)
    terms = trainer.model.score_terms
    before = dict(zip(terms, (0.7, 0.2), strict=True))
    tried = {part: [] for part in terms}
    for part, term in terms.items():
        term.weight.fill_(before[part])
        now = spread(trainer, valid_data, part)
        was = [(name, float(getattr(term, name))) for name in FORMS[part][0]]
        for form in FORMS[part]:
            put(term, **form)
            weight = before[part] * now / spread(trainer, valid_data, part)
            factors = (1,) if part is Part.CONTENT else AGAIN
            tried[part] += [{**form, "weight": factor * weight} for factor in factors]
        put(term, **dict(was))
    find_term_weights(trainer, valid_data)
    gain = mean_gain(trainer, valid_data)
    gains = []
    for forms in product(*tried.values()):
        for term, form in zip(terms.values(), forms, strict=True):
            put(term, **form)
        gains.append(mean_gain(trainer, valid_data))
    assert len(gains) == 3 * 4 * 2
    assert len(set(gains)) > 1
    assert gain == pytest.approx(max(gains), abs=1e-6)


def put(term, **values):
    for name, value in values.items():
        getattr(term, name).fill_(value)


@torch.no_grad()
def spread(trainer, loader, part):
    """How far the best ranked item is above the mean by a part of the scores alone, in the mean of the users."""
    heights = []
    for batch in loader:
        with model_scorer(trainer, loader) as score, only(part, trainer.model):
            _, scores, *_ = score(batch)
        heights += [float(row.max() - row[row.isfinite()].mean()) for row in scores]
    return np.mean(heights)


def test_a_search_starts_from_what_the_validation_before_has_found(prepare, monkeypatch):
    _, trainer, _, valid_data, _ = prepare()
    asked = []
    monkeypatch.setattr(_Round, "find", watched(_Round.find, asked, "find"))
    monkeypatch.setattr(_Round, "together", watched(_Round.together, asked, "together"))
    find_term_weights(trainer, valid_data)
    assert asked == ["find", "find", "together", "together"]
    for term in trainer.model.score_terms.values():
        term.weight.fill_(0.3)
    find_term_weights(trainer, valid_data)
    assert asked[4:] == ["together"]


def watched(method, asked, name):
    def call(*arguments):
        asked.append(name)
        return method(*arguments)

    return call


def test_a_term_that_has_no_weight_yet_is_tried_with_all(prepare, monkeypatch):
    """Some users see no use in a term that more do see."""
    _, trainer, _, valid_data, _ = prepare()
    terms = list(trainer.model.score_terms.values())
    scale = _Round.scale

    def without(search):
        scale(search)
        terms[0].weight.zero_()

    monkeypatch.setattr(_Round, "scale", without)
    find_term_weights(trainer, valid_data)
    gain = mean_gain(trainer, valid_data)
    assert terms[0].weight > 0
    terms[0].weight.zero_()
    assert gain > mean_gain(trainer, valid_data)


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBPR"])
def test_a_term_that_has_fallen_out_of_use_comes_back_when_it_is_of_use(prepare, model):
    """Near a weight that changes no rank all gains are equal, and of these the smallest weight would be taken."""
    _, trainer, _, valid_data, _ = prepare(model=model)
    content, purchases = trainer.model.score_terms.values()
    content.weight.fill_(1e-9)
    purchases.weight.fill_(0.01)
    before = mean_gain(trainer, valid_data)
    find_term_weights(trainer, valid_data)
    assert content.weight > 0.1
    assert mean_gain(trainer, valid_data) > before


def test_one_term_alone_is_not_scaled(prepare, monkeypatch):
    _, trainer, _, valid_data, _ = prepare(purchase_term=False)
    for together in ("scale", "forms_together", "together"):
        monkeypatch.setattr(_Round, together, None)
    find_term_weights(trainer, valid_data)
    assert trainer.model.score_terms


def test_weights_are_the_same_whether_scores_of_the_backbone_are_kept_or_not(prepare, monkeypatch):
    _, trainer, _, valid_data, _ = prepare()
    found = []
    for kept in (term_weights.KEPT, 0):
        monkeypatch.setattr(term_weights, "KEPT", kept)
        trainer.model.score_terms[Part.CONTENT].weight.zero_()  # all anew
        find_term_weights(trainer, valid_data)
        found.append([(float(term.weight), float(term.decay)) for term in trainer.model.score_terms.values()])
    assert found[0] == found[1]


@pytest.mark.parametrize("scored", ["all items", "drawn items", "pairs"])
@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBPR"])
def test_weights_are_the_same_whatever_the_size_of_a_batch(prepare, monkeypatch, model, scored):
    monkeypatch.setattr(term_weights, "_FIRST", 13)  # every fourth of the 40 users, then every second
    monkeypatch.setattr(term_weights, "_SECOND", (40, 40))
    monkeypatch.setattr(term_weights, "MEASURED", 7)
    mode = "full" if scored == "all items" else "uni7"
    evaluation = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode}
    found = []
    for size in (1, 7, 4096):
        _, trainer, train_data, valid_data, _ = prepare(model=model, eval_args=evaluation, eval_batch_size=size)
        scatter_groups(trainer.model, train_data)
        find_term_weights(trainer, by_predict(valid_data) if scored == "pairs" else valid_data)
        terms = trainer.model.score_terms.values()
        found.append([float(value) for term in terms for value in (term.weight, term.decay)])
    assert any(found[0][::2])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_an_evaluation_of_single_scores_finds_the_weights_that_its_rankings_would(prepare):
    """Those of AUC over all scores, whose batches have a score for each user and candidate."""
    settings = {"eval_args": {"mode": "uni7"}, "topk": [20]}
    found = []
    for metrics in ({"metrics": ["AUC"], "valid_metric": "AUC"}, {"metrics": ["GAUC"], "valid_metric": "GAUC"}):
        _, trainer, _, valid_data, _ = prepare(**settings, **metrics)
        find_term_weights(trainer, valid_data)
        trainer.evaluate(valid_data, load_best_model=False)
        terms = trainer.model.score_terms.values()
        found.append([float(value) for term in terms for value in (term.weight, term.decay)])
    assert any(found[0][::2])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
