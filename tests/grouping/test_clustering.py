"""Users into groups."""

import numpy as np
import pytest
import torch

from recbole_perpeft.grouping.clustering import (
    coherence,
    coherence_of,
    kmeans_groups,
    nearest,
    random_groups,
    regroup_users,
    whitened,
)


def blobs(n=30, groups=3, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % groups
    return truth, (10 * np.eye(groups)[truth] + rng.normal(size=(n, groups))).astype(np.float32)


def test_kmeans_finds_separate_groups_and_their_means():
    truth, points = blobs()
    groups, centres = kmeans_groups(points, 3, seed=1)
    for group in range(3):
        members = groups == group
        assert len(set(truth[members])) == 1
        np.testing.assert_allclose(centres[group], points[members].mean(axis=0), rtol=1e-5)
    assert np.bincount(groups).tolist() == [10, 10, 10]
    assert (nearest(torch.from_numpy(points), torch.from_numpy(centres).float()).numpy() == groups).all()


def test_the_seed_decides():
    points = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    for method in (lambda seed: kmeans_groups(points, 5, seed)[0], lambda seed: random_groups(60, 5, seed)):
        first, again, other = (method(seed) for seed in (1, 1, 2))
        assert (first == again).all()
        assert (first != other).any()


def test_random_groups_have_equal_sizes():
    assert sorted(np.bincount(random_groups(31, 4, seed=0))) == [7, 8, 8, 8]


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_users_of_fewer_kinds_than_groups_leave_groups_empty(kinds):
    points = np.repeat(np.eye(3, dtype=np.float32)[:kinds], 10, axis=0)
    groups, centres = kmeans_groups(points, 4, seed=0)
    assert len(centres) == kinds
    np.testing.assert_allclose(centres[groups], points, atol=1e-6)


def test_points_that_all_but_coincide_give_groups_without_a_warning(recwarn):
    points = np.ones((12, 2), np.float32)
    points[:6, 0] += np.finfo(np.float32).eps * np.arange(6)
    groups, centres = kmeans_groups(points, 6, seed=0)
    assert groups.max() < len(centres) <= 6
    assert not recwarn.list


def test_users_move_to_the_group_that_predicts_them_best():
    losses = np.random.default_rng(0).random((40, 4))
    assert (regroup_users(losses) == losses.argmin(axis=1)).all()


def test_a_group_that_would_be_too_small_gets_those_who_lose_least():
    losses = np.tile([1.0, 2.0, 3.0], (24, 1))
    losses[:, 1] += np.linspace(0, 1, 24)[::-1]  # the later users lose less in group 1
    losses[:5, 2] = 2.5
    groups = regroup_users(losses)
    assert np.bincount(groups).tolist() == [20, 2, 2]  # a quarter of 24 / 3
    assert groups[-2:].tolist() == [1, 1]
    assert set(np.flatnonzero(groups == 2)) <= set(range(5))


def test_coherence_is_the_mean_product_of_pairs_in_each_scaled_component():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(21, 4)) @ rng.normal(size=(4, 4))
    sequences = [rng.choice(np.arange(1, 21), size=n, replace=False) for n in (2, 5, 9)]
    centred = features[1:] - features[1:].mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / 20)
    white = (centred @ vectors / np.sqrt(values))[:, ::-1]  # variance 1, largest component first
    by_user = coherence(whitened(torch.from_numpy(features)), sequences)
    padded = torch.tensor([[*items, *[0] * (12 - len(items))] for items in sequences])
    of_padded = coherence_of(torch.from_numpy(whitened(torch.from_numpy(features))), padded)
    np.testing.assert_allclose(of_padded, by_user, atol=1e-6)  # the root of a sum that is 0 but for rounding
    for found, items in zip(by_user, sequences, strict=True):
        pairs = [white[i - 1] * white[j - 1] for i in items for j in items if i != j]
        mean = np.mean(pairs, axis=0)
        np.testing.assert_allclose(found, np.sign(mean) * np.sqrt(np.abs(mean)), atol=1e-10)


def test_coherence_groups_users_by_the_aspect_they_look_at_and_not_by_what_they_like():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4, size=(400, 3))  # items with three aspects of four values each
    # aspects of different weight, so that principal components do not mix them
    features = np.concatenate([(1 + aspect) * np.eye(4)[values[:, aspect]] for aspect in range(3)], axis=1)
    features = np.concatenate([np.zeros((1, 12)), features + 0.05 * rng.normal(size=(400, 12))]).astype(np.float32)
    aspects, liked = rng.integers(0, 3, size=150), rng.integers(0, 4, size=150)
    sequences = [
        1 + rng.choice(np.flatnonzero(values[:, aspect] == value), size=10, replace=False)
        for aspect, value in zip(aspects, liked, strict=True)
    ]

    def purity(points):
        groups, _ = kmeans_groups(points, 3, seed=0)
        return sum(np.bincount(aspects[groups == group]).max() for group in range(3)) / 150

    by_coherence = purity(coherence(whitened(torch.from_numpy(features)), sequences))
    assert by_coherence > 0.8
    assert purity(np.stack([features[items].mean(axis=0) for items in sequences])) < by_coherence - 0.2


def test_items_without_variety_leave_all_users_in_one_group():
    found = coherence(whitened(torch.ones(5, 3)), [np.array([1, 2]), np.array([3])])
    groups, centres = kmeans_groups(found, 2, seed=0)
    assert groups.tolist() == [0, 0]
    assert nearest(torch.from_numpy(found), torch.from_numpy(centres)).tolist() == [0, 0]
