"""Metrics against a ranking made by hand with numpy, on the demo data."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_perpeft.config.settings import PROPERTIES
from recbole_perpeft.data.preparation import create_dataset, data_preparation
from tests.matrix import slow
from tests.tiny_models import save_tiny_clip

DEMO = Path(PROPERTIES).parent / "dataset"


def demo_sequences():
    """The demo's purchases read by hand: user to items, oldest first."""
    bought = defaultdict(list)
    for line in (DEMO / "demo" / "demo.inter").read_text().splitlines()[1:]:
        user, item, second = line.split("\t")
        bought[user].append((float(second), item))
    return {user: [item for _, item in sorted(rows)] for user, rows in bought.items()}


def by_hand(scores, target, masked, k):
    """NDCG, recall and hit at k of one ranking with one target."""
    order = [item for item in np.argsort(-scores, kind="stable") if item not in masked and item != 0]
    rank = order.index(target) + 1
    return (1 / np.log2(rank + 1) if rank <= k else 0.0), float(rank <= k), float(rank <= k)


@pytest.fixture
def demo_run(tiny, tmp_path):
    """A model on 80 users of the demo with a tiny encoder, its groups set by turns, and the loaders."""
    folder = save_tiny_clip(tmp_path / "clip")

    def make(**settings):
        config = tiny(
            dataset="demo", data_path=str(DEMO), encoder=str(folder), user_sample=80, topk=[20, 30],
            valid_metric="NDCG@20", metric_decimal_place=9, num_groups=3, content_cache=str(tmp_path / "cache"),
            **settings,
        )  # fmt: skip
        from recbole_perpeft.trainer.trainer import PerPEFTTrainer

        dataset = create_dataset(config)
        train_data, valid_data, test_data = data_preparation(config, dataset)
        torch.manual_seed(0)
        model = config.model_class(config, train_data._dataset)
        model.user_groups[1:] = torch.arange(model.user_groups.numel() - 1) % 3
        with torch.no_grad():
            for group in range(3):
                for parameter in model.item_tower.group_parameters(group):
                    parameter.add_(0.3 * torch.randn_like(parameter))
        trainer = PerPEFTTrainer(config, model)
        trainer.eval_collector.data_collect(train_data)
        return dataset, trainer, valid_data, test_data

    return make


@pytest.mark.parametrize(("mask", "held_out"), [(True, -1), (False, -2), slow(True, -2), slow(False, -1)])
def test_metrics_are_those_of_a_ranking_by_hand(demo_run, mask, held_out):
    dataset, trainer, valid_data, test_data = demo_run(mask_history=mask)
    result = trainer.evaluate(valid_data if held_out == -2 else test_data, load_best_model=False)
    model, ids = trainer.model, dataset.field2token_id["item_id"]
    expected = defaultdict(list)
    sequences = demo_sequences()
    for user, user_id in dataset.field2token_id["user_id"].items():
        if user == "[PAD]":
            continue
        items = [ids[item] for item in sequences[user]]
        before = items[:held_out]
        last = torch.tensor([before[-model.max_seq_length :]])
        padded = torch.nn.functional.pad(last, (0, model.max_seq_length - last.shape[1]))
        with torch.no_grad(), model.item_tower.catalogue(int(model.user_groups[user_id])):
            output = model.forward(padded, torch.tensor([last.shape[1]]))
            scores = (output @ model.item_tower.weight.T)[0].numpy()
        for k in (20, 30):
            values = by_hand(scores, items[held_out], set(before) if mask else set(), k)
            for metric, value in zip(("ndcg", "recall", "hit"), values, strict=True):
                expected[f"{metric}@{k}"].append(value)
    assert result.keys() == expected.keys()
    for name, values in expected.items():
        assert len(values) == 80
        assert result[name] == pytest.approx(np.mean(values), abs=1e-6), name


def test_masking_only_removes_rivals(demo_run):
    masked, free = (demo_run(mask_history=mask) for mask in (True, False))
    scores = [trainer.evaluate(test_data, load_best_model=False) for _, trainer, _, test_data in (masked, free)]
    assert all(scores[0][name] >= scores[1][name] for name in scores[0])
    assert scores[0] != scores[1]
