"""Sums of gains by rank, against sorting."""

import numpy as np
import pytest
import torch

from recbole_perpeft.evaluation.rank_gain import length_of, rank_gain, rank_gains


def by_sorting(scores: torch.Tensor, rows: torch.Tensor, items: torch.Tensor, k: int) -> float:
    """By the place of each positive in its row's sorted scores."""
    order = np.argsort(-scores.numpy(), axis=1, kind="stable")
    places = [int(np.flatnonzero(order[row] == item)[0]) for row, item in zip(rows, items, strict=True)]
    return sum(np.log(4 * k) - np.log(k + 2 * place) for place in places if 2 * place < 3 * k)


@pytest.fixture
def parts() -> tuple[torch.Tensor, torch.Tensor]:
    """Two parts of the scores of 40 rows and 5,000 items, some of them not ranked."""
    generator = torch.Generator().manual_seed(1)
    scores, term = (torch.randn(40, 5000, generator=generator) for _ in range(2))
    unranked = torch.rand(40, 5000, generator=generator) < 0.1
    unranked[:, :20] = False
    return scores.masked_fill_(unranked, -torch.inf), term.masked_fill_(unranked, -torch.inf)


@pytest.mark.parametrize("k", [20, 300, 5000])
@pytest.mark.parametrize("positives", [40, 100], ids=["one", "several"])
def test_gains_of_many_weights_are_those_of_the_sum_sorted(parts, positives, k) -> None:
    scores, term = parts
    rows, items = torch.arange(positives) % 40, torch.arange(positives) % 20
    for part in parts:
        part[rows[:20], items[:20]] = 2.5  # some are near the top
    weights = (0.0, 0.5, 2.0)
    found = rank_gains(scores, term, weights, rows, items, k)
    assert (found > 1).all()
    for gain, weight in zip(found, weights, strict=True):
        mixed = scores + weight * term
        assert float(gain) == pytest.approx(by_sorting(mixed, rows, items, k))
        assert float(gain) == pytest.approx(rank_gain(mixed, rows, items, k))


def test_nothing_is_gained_if_all_are_far_behind(parts) -> None:
    scores, term = parts
    rows, items = torch.arange(40), torch.arange(40) % 20
    scores[rows, items], term[rows, items] = -100.0, -100.0
    assert rank_gains(scores, term, (0.0, 1.0), rows, items, 20).tolist() == [0, 0]


@pytest.mark.parametrize(("metric", "k"), [("NDCG@20", 20), ("Recall@50", 50), ("MRR@5", 20), ("AUC", 640)])
def test_gains_go_by_the_metrics_lists(metric, k) -> None:
    assert length_of(metric, n_items=640) == k
