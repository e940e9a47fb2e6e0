"""Losses against formulas written out."""

import math

import pytest
import torch

from recbole_perpeft.model.loss import BatchSoftmaxLoss, BCELoss


def test_bce_is_the_mean_over_positives_plus_the_mean_over_negatives():
    positive, negative = [0.3, -2.0, 5.0], [1.0, 0.0, -4.0]
    sigmoid = [1 / (1 + math.exp(-score)) for score in positive], [1 / (1 + math.exp(-score)) for score in negative]
    expected = -sum(map(math.log, sigmoid[0])) / 3 - sum(math.log(1 - p) for p in sigmoid[1]) / 3
    assert BCELoss()(torch.tensor(positive), torch.tensor(negative)).item() == pytest.approx(expected, rel=1e-5)


def test_bce_stays_finite_for_scores_of_any_size():
    scores = torch.tensor([1e4, -1e4])
    assert BCELoss()(scores, -scores).isfinite()


def test_the_softmax_leaves_excluded_columns_out():
    excluded = torch.tensor([[True, False, True, False]])
    logits = torch.tensor([[9.0, 1.0, 9.0, 2.0]], requires_grad=True)
    value = BatchSoftmaxLoss()(logits, torch.tensor([1]), excluded)
    assert value.item() == pytest.approx(-math.log(math.e / (math.e + math.e**2)), rel=1e-5)
    value.backward()
    assert logits.grad[0, [0, 2]].tolist() == [0, 0]


def test_negatives_count_for_as_many_items_as_they_stand_for_and_the_target_for_one():
    excluded = torch.tensor([[True, False, False, False]] * 2)
    log_weights = torch.tensor([0.0, math.log(5), math.log(3), math.log(7)])
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0], [0.0, 0.5, 0.1, -0.3]])
    first = -1 + math.log(math.exp(1) + 3 * math.exp(-1) + 7 * math.exp(2))
    second = 0.3 + math.log(5 * math.exp(0.5) + 3 * math.exp(0.1) + math.exp(-0.3))
    loss = BatchSoftmaxLoss()(logits, torch.tensor([1, 3]), excluded, log_weights)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-5)
