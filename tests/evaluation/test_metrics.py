"""Metrics of the recommended lists and of values, against plain calculations; what cannot be computed is refused."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from benchmarks import metrics_agreement
from recbole_perpeft.evaluation.ranked_rows import check_scores
from recbole_perpeft.quick_start import prepare as prepare_config
from recbole_perpeft.utils.errors import SettingError
from recbole_perpeft.utils.random_state import random_state, set_random_state
from tests.evaluation.test_full_ranking import LIST_METRICS

PROTOCOL = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}


def lists_of(model, loader, k):
    """The k best items of every user, by sorting; shorter where fewer can be ranked."""
    lists = []
    for interaction, history, _, _ in loader:
        with torch.no_grad():
            scores = model.full_sort_predict(interaction).view(len(interaction), -1).double()
        scores[:, 0] = -torch.inf
        if history is not None:
            scores[history] = -torch.inf
        for row in scores.numpy():
            lists.append([item for item in np.argsort(-row)[:k] if row[item] > -np.inf])
    return lists


def plain(lists, bought, items, tail):
    """The five metrics by their definitions; ``bought``: training purchases of each item."""
    shown = Counter(item for items in lists for item in items)
    total = sum(shown.values())
    times = sorted(shown[item] for item in items)
    gini = sum(abs(a - b) for a in times for b in times) / (2 * len(items) * total)
    return {
        "itemcoverage": len(shown) / len(items),
        "shannonentropy": -sum(n / total * math.log(n / total) for n in shown.values()),
        "giniindex": gini,
        "averagepopularity": np.mean([np.mean([bought[item] for item in items]) for items in lists]),
        "tailpercentage": np.mean([np.mean([item in tail for item in items]) for items in lists]),
    }


@pytest.mark.parametrize(("model", "settings"), [
    ("SASRec", {"tail_ratio": 0.3}),
    ("BPR", {"tail_ratio": 3}),
    ("PerPEFTSASRec", {"cold_items": 0.2, "tail_ratio": 0.2}),
    ("SASRec", {"mask_history": False, "topk": [5, 30], "valid_metric": "NDCG@5"}),
])  # fmt: skip
def test_metrics_of_lists_are_what_they_are_called(prepare, model, settings):
    settings = {"metrics": ["NDCG", *LIST_METRICS], "metric_decimal_place": 9, **settings}
    dataset, trainer, train_data, _, test_data = prepare(model=model, **settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    result = trainer.evaluate(test_data, load_best_model=False)  # never trained: the facts of the data are there
    bought = Counter(item for items in train_data._dataset.training_sequences().values() for item in items.tolist())
    items = range(1, dataset.item_num)
    ratio = settings.get("tail_ratio", 0.1)
    rarest = sorted(items, key=lambda item: (bought[item], item))
    tail = [item for item in items if bought[item] <= ratio] if ratio > 1 else rarest[: int(ratio * len(rarest))]
    for k in trainer.config["topk"]:
        expected = plain(lists_of(trainer.model.eval(), test_data, k), bought, items, tail)
        assert {name: result[f"{name}@{k}"] for name in expected} == pytest.approx(expected, abs=1e-6)
    if "cold_items" in settings:
        assert any(not bought[item] for item in items)
        assert result["tailpercentage@5"] > 0


def test_recboles_own_collector_and_metrics_serve_recboles_own_trainer(tiny):
    """As of a user who takes RecBole's trainer."""
    from recbole.trainer import Trainer

    config = tiny(model="SASRec", metrics=LIST_METRICS, valid_metric="GiniIndex@5", epochs=1)
    _, trainer, train_data, valid_data, test_data = prepare_config(config)
    own = Trainer(config, trainer.model)
    own.fit(train_data, valid_data, saved=False, verbose=False)
    assert own.evaluate(test_data, load_best_model=False) == trainer.evaluate(test_data, load_best_model=False)


@pytest.mark.parametrize("mode", ["full", "uni12"])
def test_gauc_is_the_share_of_pairs_in_the_right_order(prepare, monkeypatch, mode):
    settings = {"metrics": ["GAUC"], "valid_metric": "GAUC", "eval_args": {**PROTOCOL, "mode": mode}}
    _, trainer, _, _, test_data = prepare(model="SASRec", metric_decimal_place=9, **settings)
    shares, collect = [], trainer.eval_collector.eval_batch_collect

    def look_on(scores, interaction, users, items):
        for user, item in zip(users, items, strict=True):
            own, others = scores[user, item], torch.cat([scores[user, :item], scores[user, item + 1 :]])
            others = others[others > -torch.inf]
            shares.append(float(((own > others).sum() + 0.5 * (own == others).sum()) / len(others)))
        collect(scores, interaction, users, items)

    monkeypatch.setattr(trainer.eval_collector, "eval_batch_collect", look_on)
    result = trainer.evaluate(test_data, load_best_model=False)
    assert len(shares) == 40
    assert result["gauc"] == pytest.approx(np.mean(shares), abs=1e-5)


@pytest.mark.parametrize(("settings", "message"), [
    ({"metrics": ["AUC"], "valid_metric": "AUC"}, r"AUC is not possible with eval_args mode: full"),
    ({"metrics": ["NDCG", "LogLoss"]}, r"LogLoss cannot stand beside NDCG"),
    ({"eval_args": {**PROTOCOL, "mode": "labeled"}}, r"nothing is ranked"),
    ({"eval_args": {**PROTOCOL, "mode": {"valid": "uni5", "test": "labeled"}}}, r"nothing is ranked"),
    ({"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {**PROTOCOL, "mode": "labeled"}}, r"needs labels"),
    ({"tail_ratio": 0}, r"tail_ratio: 0 is not possible"),
])  # fmt: skip
@pytest.mark.parametrize("model", ["SASRec", "PerPEFTBPR"])
def test_metrics_that_an_evaluation_cannot_give_are_refused(tiny, model, settings, message):
    with pytest.raises(SettingError, match=message):
        tiny(model=model, **settings)


def test_scores_that_are_no_probabilities_are_not_compared_with_labels(prepare):
    settings = {"valid_metric": "LogLoss", "metrics": ["LogLoss"], "eval_args": {**PROTOCOL, "mode": "uni5"}}
    _, trainer, _, _, test_data = prepare(model="BPR", **settings)
    with pytest.raises(SettingError, match="LogLoss cannot be computed for BPR: its scores run from -"):
        trainer.evaluate(test_data, load_best_model=False)


@pytest.mark.parametrize(("model", "is_possible"), [("BPR", False), ("PerPEFTSASRec", False), ("NeuMF", True)])
def test_that_scores_are_no_probabilities_is_seen_before_training(prepare, model, is_possible):
    settings = {"valid_metric": "LogLoss", "metrics": ["LogLoss"], "eval_args": {**PROTOCOL, "mode": "uni5"}}
    _, trainer, _, valid_data, _ = prepare(model=model, **settings)
    state = random_state()
    if is_possible:
        check_scores(trainer, valid_data)
    else:
        with pytest.raises(SettingError, match=f"LogLoss cannot be computed for {model}: its scores run from"):
            check_scores(trainer, valid_data)
    drawn = np.random.random()
    set_random_state(state)
    assert drawn == np.random.random()  # what training draws is as it was
    _, trainer, _, _, test_data = prepare(model="NeuMF", **settings)
    assert 0 < trainer.evaluate(test_data, load_best_model=False)["logloss"] < 1


@pytest.mark.parametrize("k", metrics_agreement.CUTS)
def test_metrics_of_rankings_are_those_of_their_definitions(k):
    """The values that benchmarks/metrics_agreement.py compares with those of other libraries."""
    lists = metrics_agreement.cases()["several relevant, short lists"]
    expected = {"NDCG": 0.0, "Recall": 0.0, "MAP": 0.0, "MRR": 0.0}
    for ranked, relevant in zip(*lists, strict=True):
        places = [place for place, item in enumerate(ranked[:k], start=1) if item in relevant]
        most = min(len(relevant), k)
        ideal = sum(1 / math.log2(place + 1) for place in range(1, most + 1))
        expected["NDCG"] += sum(1 / math.log2(place + 1) for place in places) / ideal / len(lists[0])
        expected["Recall"] += len(places) / len(relevant) / len(lists[0])
        expected["MAP"] += sum(n / place for n, place in enumerate(places, start=1)) / most / len(lists[0])
        expected["MRR"] += 1 / places[0] / len(lists[0]) if places else 0
    assert metrics_agreement.ours(*lists, k) == pytest.approx(expected, abs=1e-9)
