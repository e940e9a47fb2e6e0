"""Tables that are carried on from some of their rows."""

import numpy as np
import pytest
import torch

from recbole_perpeft.model.stale_features import extrapolate

N, D = 200, 6


def table(seed=1):
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed))


def test_known_rows_are_as_given_and_an_affine_change_is_found_from_them():
    before, slopes, shift = table(), 0.3 * table(2)[:D], table(3)[0]
    after = before + before @ slopes + shift
    rows = torch.arange(0, N, 3)
    found = extrapolate(before, rows, after[rows])
    assert torch.equal(found[rows], after[rows])
    moved, missed = (after - before).norm(), (found - after).norm()
    assert missed < 0.05 * moved  # the ridge holds back three per cent
    mean_alone = before + (after - before)[rows].mean(dim=0)
    assert missed < 0.1 * (mean_alone - after).norm()


@pytest.mark.parametrize("number", [1, 4, 60])
def test_it_is_ridge_regression(number):
    before, rows = table(), torch.arange(number) * 3
    now = table(4)[rows]
    x, moved = before[rows].double().numpy(), (now - before[rows]).double().numpy()
    centred = x - x.mean(axis=0)
    ridge = 0.03 * np.square(centred).sum() / D
    design = np.concatenate([centred, np.sqrt(ridge) * np.eye(D)])
    target = np.concatenate([moved - moved.mean(axis=0), np.zeros((D, D))])
    slopes = np.linalg.lstsq(design, target, rcond=None)[0]
    expected = before.double().numpy() + moved.mean(axis=0) + (before.double().numpy() - x.mean(axis=0)) @ slopes
    expected[rows] = now
    np.testing.assert_allclose(extrapolate(before, rows, now), expected, rtol=1e-3, atol=1e-4)


def test_the_gradient_of_the_others_reaches_the_known_rows():
    before, rows = table(), torch.arange(0, N, 3)
    now, weights = table(4)[rows].requires_grad_(), table(5)
    (weights * extrapolate(before, rows, now)).sum().backward()
    with torch.no_grad():
        for row, column in ((0, 0), (7, 3), (66, 5)):
            step = torch.zeros_like(now)
            step[row, column] = 0.5  # it is linear: any step is as good
            difference = extrapolate(before, rows, now + step) - extrapolate(before, rows, now - step)
            torch.testing.assert_close((weights * difference).sum(), now.grad[row, column], rtol=1e-3, atol=1e-3)
    assert (now.grad - weights[rows]).abs().max() > 0.1


def test_half_precision_around_it_changes_nothing():
    before, rows = table(), torch.arange(0, N, 3)
    now = table(4)[rows]
    expected = extrapolate(before, rows, now)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extrapolate(before, rows, now), expected)


@pytest.mark.parametrize("rows", [[3], [3, 9], [3, 9, 12]])
def test_rows_that_do_not_differ_move_all_others_by_their_mean_and_have_its_gradient(rows):
    before, rows = table(), torch.tensor(rows)
    before[rows] = before[3].clone()
    now, weights = table(4)[rows].requires_grad_(), table(5)
    found = extrapolate(before, rows, now)
    expected = (before + (now - before[rows]).mean(dim=0)).index_copy(0, rows, now)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    gradient, of_mean = (torch.autograd.grad((weights * table).sum(), now)[0] for table in (found, expected))
    torch.testing.assert_close(gradient, of_mean, rtol=1e-2, atol=1e-2)
