"""A mixture finds users who look at the same aspects of items, and is the same whatever came before it."""

import numpy as np
import torch
from torch.nn import functional as F

from recbole_perpeft.grouping.clustering import coherence, kmeans_groups
from recbole_perpeft.grouping.likeness_groups import likeness_report
from recbole_perpeft.likeness.maps import sums_of_losses
from recbole_perpeft.likeness.mixture import Mixture, drawn_items
from recbole_perpeft.likeness.purchases import Purchases
from recbole_perpeft.likeness.softness import likeliest_softness

ASPECTS, VALUES = 3, 4


def shop(n_users=240, n_items=300, length=7, seed=0):
    """Users who keep to a value of an aspect, but for a purchase in seven: table, histories, their aspects."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, VALUES, size=(n_items, ASPECTS))
    features = np.concatenate([np.eye(VALUES)[values[:, aspect]] for aspect in range(ASPECTS)], axis=1)
    table = np.concatenate([np.zeros((1, ASPECTS * VALUES)), features - features.mean(axis=0)])
    aspects, rows = rng.integers(0, ASPECTS, size=n_users), []
    for aspect in aspects:
        liked = np.flatnonzero(values[:, aspect] == rng.integers(0, VALUES))
        own = rng.choice(liked, size=length - 1, replace=False)
        rows.append(rng.permutation(np.append(own, rng.choice(np.setdiff1d(np.arange(n_items), own)))) + 1)
    return F.normalize(torch.from_numpy(table).float()), torch.from_numpy(np.stack(rows)), aspects


def mixture_of(table, histories, num_groups, seed=0):
    purchases = Purchases.of(histories)
    softness = likeliest_softness(table, purchases.histories, purchases.targets)
    found = Mixture(table, purchases, softness, torch.Generator().manual_seed(seed))
    points = coherence(table.numpy(), list(histories.numpy()))
    found.losses = found.grow(num_groups, lambda rows: kmeans_groups(points[rows], 2, seed)[0])
    return found


def purity(groups, truth):
    return sum(np.bincount(truth[groups == group]).max() for group in np.unique(groups)) / len(truth)


def test_groups_are_of_users_who_look_at_the_same_aspect():
    table, histories, aspects = shop()
    found = mixture_of(table, histories, ASPECTS)
    groups = found.shares.argmax(dim=1).numpy()
    assert purity(groups, aspects) > 0.9


def test_a_mixture_depends_on_its_seed_alone():
    table, histories, _ = shop(n_users=60)
    first = mixture_of(table, histories, 2)
    torch.rand(3)
    again, other = mixture_of(table, histories, 2), mixture_of(table, histories, 2, seed=1)
    assert torch.equal(first.shares, again.shares)
    assert all(torch.equal(a.matrices, b.matrices) for a, b in zip(first.halves, again.halves, strict=True))
    assert not torch.equal(first.shares, other.shares)
    torch.testing.assert_close(first.shares.sum(dim=1), torch.ones(60))


def test_users_who_are_all_alike_stay_in_one_group():
    table, histories, _ = shop(n_users=20)
    assert mixture_of(table, histories[:1].repeat(20, 1), 3).shares.shape == (20, 1)


def test_users_are_judged_by_what_others_taught():
    table, histories, _ = shop(n_users=40)
    found = Mixture(table, Purchases.of(histories), (0.2, 1.0), torch.Generator().manual_seed(0))
    second = found._second.nonzero().squeeze(1)
    sums = found._teach(found.halves, found.shares, found._purchases)
    judged = {row: float(value) for row, value in enumerate(sums[:, 0])}
    again = Mixture(table, Purchases.of(histories), (0.2, 1.0), torch.Generator().manual_seed(0))
    others = Purchases.of(histories.index_fill(0, second, 0))  # the second half buys nothing that could teach
    alone = again._teach(again.halves, again.shares, others)
    untaught = mixture_sums(table, histories)
    for row in range(40):
        if row not in second.tolist():  # judged by maps that nobody taught
            assert abs(float(alone[row, 0]) - untaught[row]) < 1e-4
            assert abs(judged[row] - untaught[row]) > 1e-3


def mixture_sums(table, histories):
    items = drawn_items(table, torch.Generator().manual_seed(0))
    matrices = torch.eye(table.shape[1])[None]
    return sums_of_losses(matrices, Purchases.of(histories), table, items, (0.2, 1.0))[:, 0].tolist()


def test_losses_tell_whether_groups_predict_purchases_better_than_one_map():
    table, histories, _ = shop()
    alone, together = mixture_of(table, histories, ASPECTS).losses
    assert together < alone - 0.02
    drawn = np.random.default_rng(0).permuted(np.tile(np.arange(1, 301), (240, 1)), axis=1)[:, :7]
    alone, together = mixture_of(table, torch.from_numpy(drawn), ASPECTS).losses  # who buys anything is in no group
    assert together > alone
    assert "do not expect" in likeness_report(1.0, 1.01, 3)
    assert "do not expect" not in likeness_report(1.0, 0.9, 3) + likeness_report(1.0, 1.0, 1)
