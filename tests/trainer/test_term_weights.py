"""The weights of both terms together, against trying them all."""

from itertools import product

import pytest

from recbole_perpeft.model.score_parts import Part
from recbole_perpeft.trainer import term_weights
from recbole_perpeft.trainer.term_weights import AGAIN, FACTORS, NEAR, _Round, find_term_weights
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
