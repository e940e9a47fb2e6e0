"""Evaluation among sampled items: with mask_history, none of them was bought before; one pass a user scores all."""

import numpy as np
import pytest
import torch

from recbole_perpeft.config.registry import content_models
from recbole_perpeft.data.preparation import create_dataset, data_preparation
from recbole_perpeft.data.sampled_ranking import CandidateRankingLoader, SampledRankingLoader
from recbole_perpeft.utils.errors import DataError
from tests.matrix import quickly
from tests.model.test_backbones import OF_MODEL, SIZES
from tests.tiny_data import random_sequences, write_atomic
from tests.training import by_predict
from tests.utils.test_scores import SETTINGS, names, perturbed

BY_PAIR = {"ConvNCF", "DIEN", "DIN", "NAIS", "NNCF", "NeuMF"}
MODELS = [*names(), *content_models()]
QUICK = ["SASRec", "BPR", "NAIS", "PerPEFTSASRec", "ContentNeighbours"]


def negatives_bought(tiny, phase, **settings):
    """How many sampled negatives there are, and how many of them their user had bought by the target's time."""
    config = tiny(eval_args={"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni20"}
                  | settings.pop("eval_args", {}), **settings)  # fmt: skip
    dataset = create_dataset(config)
    loader = data_preparation(config, dataset)[1 if phase == "valid" else 2]
    sequences, _ = random_sequences()
    number = bought = 0
    for interaction, rows, positive_u, positive_i in by_predict(loader):
        targets = dict(zip(positive_u.tolist(), positive_i.tolist(), strict=True))
        for user, item, row in zip(interaction["user_id"], interaction["item_id"], rows.tolist(), strict=True):
            if item == targets[row]:
                continue
            sequence = sequences[dataset.id2token("user_id", int(user))]
            before = sequence[: sequence.index(dataset.id2token("item_id", targets[row]))]
            number += 1
            bought += dataset.id2token("item_id", int(item)) in before
    return number, bought


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "SASRec", "PerPEFTBPR", "BPR"])
def test_no_negative_was_bought_by_then(tiny, caplog, model):
    caplog.set_level("INFO")
    for phase in ("valid", "test"):
        for mode in ("uni20", "pop20"):
            assert negatives_bought(tiny, phase, model=model, eval_args={"mode": mode}) == (40 * 20, 0)
    assert "mode: pop20 tests each target among 20 items, drawn by popularity, none of which" in caplog.text


@pytest.mark.parametrize("model", ["SASRec", "BPR", "Pop"])
def test_without_mask_history_purchases_are_drawn_too(tiny, model):
    """As RecBole does for sequential models, for general ones alike."""
    number, bought = negatives_bought(tiny, "test", model=model, mask_history=False)
    assert number == 40 * 20
    assert 80 < bought < 200  # of 30 items 5.6 on average were bought: 19 % of 800 are 150


def test_what_is_bought_first_only_is_drawn_by_popularity_too(tiny, tmp_path):
    sequences, items = random_sequences()
    sequences = {user: ["first", *bought] for user, bought in sequences.items()}
    sequences |= {f"other{number}": items[number : number + 4] for number in range(20)}
    write_atomic(tmp_path, "first", sequences, ["first", *items])
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "pop20"}
    shares = {}
    for model in ("SASRec", "BPR"):
        config = tiny(model=model, dataset="first", data_path=str(tmp_path), eval_args=args)
        dataset = create_dataset(config)
        first, drawn = dataset.token2id("item_id", "first"), []
        for interaction, *_ in by_predict(data_preparation(config, dataset)[2]):
            drawn.append((interaction["item_id"] == first).numpy())
        shares[model] = np.concatenate(drawn).mean()
    assert 0.02 < shares["BPR"] < 2 * shares["SASRec"] < 4 * shares["BPR"]


def test_repeatable_does_not_end_the_mask_of_general_models(tiny):
    assert negatives_bought(tiny, "test", model="BPR", repeatable=True)[1] == 0
    config = tiny(model="BPR", repeatable=True)
    _, _, test_data = data_preparation(config, create_dataset(config))
    masked = sum(len(history[1]) for _, history, _, _ in test_data)
    assert masked == sum(len(items) - 1 for items in random_sequences()[0].values())


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_a_user_who_bought_everything_is_named_not_waited_for(tiny, tmp_path, model):
    sequences, items = random_sequences()
    sequences["all"] = list(np.random.default_rng(0).permutation(items))
    write_atomic(tmp_path, "greedy", sequences, items)
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni20"}
    config = tiny(model=model, dataset="greedy", data_path=str(tmp_path), eval_args=args)
    dataset = create_dataset(config)
    with pytest.raises(DataError, match="user_inter_num_interval"):  # before a model is trained in vain
        data_preparation(config, dataset)


def candidates_of(tiny, **settings):
    """User token to the set of item tokens that they rank in the test, drawn twice; numpy's state stays."""
    protocol = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni12"}
    config = tiny(eval_args=protocol, **settings)
    dataset = create_dataset(config)
    _, valid_data, test_data = data_preparation(config, dataset)
    drawn = []
    for loader in (test_data, valid_data, test_data):
        before = np.random.get_state()[1].copy()
        of_user = {}
        for interaction, (mask,), _, positive_i in loader:
            for user, hidden, target in zip(interaction["user_id"].tolist(), mask, positive_i, strict=True):
                items = (~hidden).nonzero().flatten().tolist()
                assert int(target) in items
                of_user[dataset.id2token("user_id", user)] = set(dataset.id2token("item_id", items))
        assert (np.random.get_state()[1] == before).all()
        drawn.append(of_user)
    assert drawn[0] == drawn[2] != drawn[1]
    return drawn[0]


def test_candidates_are_the_same_for_every_model_seed_and_size_of_blocks(tiny):
    first = candidates_of(tiny)
    assert first == candidates_of(tiny, model="SASRec", seed=7, eval_batch_size=40)
    assert first != candidates_of(tiny, sample_seed=7)
    assert len({frozenset(items) for items in first.values()}) == 40


@pytest.mark.parametrize("name", quickly(MODELS, QUICK))
def test_one_pass_a_user_finds_what_predict_finds_candidate_by_candidate(prepare, name):
    backbone = name.removeprefix("PerPEFT")
    settings = {**SIZES, **OF_MODEL.get(f"PerPEFT{backbone}", {}), **SETTINGS.get(name, {})}
    settings |= {"eval_args": {"mode": "uni12"}, "metrics": ["NDCG", "Recall", "GAUC"], "metric_decimal_place": 9}
    _, trainer, _, _, test_data = prepare(model=name, **settings)
    assert type(test_data) is (SampledRankingLoader if backbone in BY_PAIR else CandidateRankingLoader)
    perturbed(trainer.model)
    if hasattr(trainer.model, "invalidate"):
        trainer.model.invalidate()
    one_pass = trainer.evaluate(test_data, load_best_model=False)
    assert 0 < one_pass["ndcg@5"] < 1
    if backbone not in BY_PAIR:
        assert one_pass == pytest.approx(trainer.evaluate(by_predict(test_data), load_best_model=False), abs=1e-6)


@pytest.mark.parametrize("model", ["SASRec", "BPR", "PerPEFTSASRec"])
def test_a_user_with_several_targets_is_ranked_as_by_predict(prepare, model):
    """Of a general model in one ranking of all; a sequential model knows another history at each, so by predict."""
    protocol = {"split": {"RS": [0.4, 0.3, 0.3]}, "mode": "uni6"}
    _, trainer, _, _, test_data = prepare(model=model, eval_args=protocol, metric_decimal_place=9)
    assert isinstance(test_data, CandidateRankingLoader if model == "BPR" else SampledRankingLoader)
    perturbed(trainer.model)
    found = trainer.evaluate(test_data, load_best_model=False)
    assert found == pytest.approx(trainer.evaluate(by_predict(test_data), load_best_model=False), abs=1e-6)


def test_the_rank_is_counted_among_the_candidates_alone(prepare):
    settings = {"topk": [3], "valid_metric": "Hit@3", "metric_decimal_place": 9}
    _, trainer, _, _, test_data = prepare(model="BPR", eval_args={"mode": "uni12"}, **settings)
    model = perturbed(trainer.model)
    hits = []
    for interaction, rows, positive_u, positive_i in by_predict(test_data):
        scores = model.user_embedding(interaction["user_id"]) * model.item_embedding(interaction["item_id"])
        for row, target in zip(positive_u, positive_i, strict=True):
            own, items = scores[rows == row].sum(dim=1), interaction["item_id"][rows == row]
            better = items[own > own[items == target][0]]
            hits.append(len(torch.unique(better)) < 3)
    found = trainer.evaluate(test_data, load_best_model=False)["hit@3"]
    assert found == pytest.approx(np.mean(hits))
    assert 0.1 < found < 0.6


def test_values_are_scored_one_by_one(prepare):
    _, _, _, _, test_data = prepare(model="BPR", eval_args={"mode": "uni12"}, metrics=["AUC"], valid_metric="AUC")
    assert type(test_data) is SampledRankingLoader
