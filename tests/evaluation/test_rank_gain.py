"""Sums of gains by rank."""

import numpy as np
import pytest
import torch

from recbole_perpeft.evaluation.rank_gain import rank_gain, rank_gains


def by_sorting(scores: torch.Tensor, rows: torch.Tensor, items: torch.Tensor, end: float = np.inf) -> float:
    """Of the positives up to rank ``end``, by the place of each in its row's sorted scores."""
    order = np.argsort(-scores.numpy(), axis=1, kind="stable")
    places = [int(np.flatnonzero(order[row] == item)[0]) for row, item in zip(rows, items, strict=True)]
    return sum(1 / np.log2(2 + place) for place in places if place < end)


@pytest.fixture
def parts() -> tuple[torch.Tensor, torch.Tensor]:
    """Two parts of the scores of 40 rows and 5,000 items, some of them not ranked."""
    generator = torch.Generator().manual_seed(1)
    scores, term = (torch.randn(40, 5000, generator=generator) for _ in range(2))
    unranked = torch.rand(40, 5000, generator=generator) < 0.1
    unranked[:, :20] = False
    return scores.masked_fill_(unranked, -torch.inf), term.masked_fill_(unranked, -torch.inf)


@pytest.mark.parametrize("positives", [40, 100], ids=["one", "several"])
def test_gains_of_many_weights_are_those_of_the_sum_sorted(parts, positives) -> None:
    scores, term = parts
    rows, items = torch.arange(positives) % 40, torch.arange(positives) % 20
    weights = (0.5, 2.0)
    found = rank_gains(scores, term, weights, rows, items)
    for gain, weight in zip(found, weights, strict=True):
        mixed = scores + weight * term
        assert float(gain) == pytest.approx(by_sorting(mixed, rows, items))
        assert float(gain) == pytest.approx(rank_gain(mixed, rows, items))


@pytest.mark.parametrize("positives", [40, 100], ids=["one", "several"])
def test_only_ranks_up_to_the_end_count(parts, positives) -> None:
    scores, term = parts
    rows, items = torch.arange(positives) % 40, torch.arange(positives) % 20
    weights, end = (0.0, 0.5, 2.0), 500
    found = rank_gains(scores, term, weights, rows, items, end)
    for gain, weight in zip(found, weights, strict=True):
        some = by_sorting(scores + weight * term, rows, items, end)
        assert 0 < some < by_sorting(scores + weight * term, rows, items)
        assert float(gain) == pytest.approx(some)


def test_no_rank_counts_if_all_are_behind_the_end(parts) -> None:
    scores, term = parts
    rows, items = torch.arange(40), torch.arange(40) % 20
    scores[rows, items], term[rows, items] = -100.0, -100.0
    assert rank_gains(scores, term, (0.0, 1.0), rows, items, 20).tolist() == [0, 0]


def test_a_weight_of_zero_leaves_the_scores(parts) -> None:
    scores, term = parts
    rows, items = torch.arange(40), torch.arange(40) % 20
    assert float(rank_gains(scores, term, (0.0,), rows, items)) == pytest.approx(by_sorting(scores, rows, items))
