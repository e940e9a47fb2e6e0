"""Groups by likeness of catalogues and users that have little to tell them by."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_perpeft.grouping.likeness_groups import LikenessGroups


def catalogue(features):
    """What a rule reads of a model whose items have ``features [n, d]``."""
    features = F.pad(features, (0, 0, 1, 0))
    return SimpleNamespace(
        device=torch.device("cpu"), item_tower=SimpleNamespace(content_features=lambda group: features)
    )


def some_users(n_items=30, shortest=1, n_users=30):
    """User id to purchases, and the same padded, ``[n, 8]``."""
    rng = np.random.default_rng(0)
    lists = [1 + rng.permutation(n_items)[: rng.integers(shortest, min(n_items, 8) + 1)] for _ in range(n_users)]
    histories = torch.stack([F.pad(torch.from_numpy(items), (0, 8 - len(items))) for items in lists])
    return dict(enumerate(lists, start=1)), histories


def features_of(n_items=30, d=6):
    return torch.randn(n_items, d, generator=torch.Generator().manual_seed(0))


def test_users_of_one_purchase_are_in_the_largest_group():
    sequences, histories = some_users()
    rule = LikenessGroups(3, seed=1)
    groups = rule.fit(catalogue(features_of()), sequences)
    alone = (histories > 0).sum(dim=1).numpy() == 1
    of_others = np.bincount(groups[~alone], minlength=3)
    assert alone.sum() >= 2
    assert set(groups[alone]) == {of_others.argmax()}
    found = rule.assign(None, torch.arange(len(histories)), histories).numpy()
    assert (found[alone] == -1).all()  # which the model makes the largest group
    assert (found[~alone] == groups[~alone]).all()


def test_items_that_came_after_the_groups_move_nobody():
    sequences, histories = some_users(shortest=4, n_users=60)
    rule = LikenessGroups(3, seed=1)
    groups = torch.from_numpy(rule.fit(catalogue(features_of()), sequences))
    assert len(groups.unique()) == 3
    table = rule.table
    rule.table = torch.cat([table, torch.zeros(30, 6)])
    assert torch.equal(rule.assign(None, None, rule.known(histories)), groups)
    later = F.pad(histories, (1, 0), value=33)  # whoever bought one of them is known by the rest
    assert torch.equal(rule.assign(None, None, rule.known(later)), groups)
    rule.table = torch.cat([table[:1], torch.zeros(30, 6), table[1:]])
    shifted = (histories + 30).where(histories > 0, 0)
    assert torch.equal(rule.assign(None, None, rule.known(shifted)), groups)


@pytest.mark.parametrize(
    "features",
    [torch.ones(30, 6), features_of(1), features_of(2), torch.tensor([[-1.0, 0], [0, 0], [1, 0]]), features_of(30, 1)],
    ids=["all alike", "one item", "two items", "one at the mean", "one number"],
)
def test_items_that_hardly_differ_are_grouped_by(features):
    sequences, histories = some_users(len(features))
    rule = LikenessGroups(3, seed=1)
    groups = rule.fit(catalogue(features), sequences)
    assert set(groups) <= {0, 1, 2}
    assert rule.matrices.isfinite().all()
    known = rule.known(histories)
    has_two = (known > 0).sum(dim=1) > 1
    found = rule.assign(None, None, known)
    assert torch.equal(found[has_two], torch.from_numpy(groups)[has_two])


def test_fewer_users_than_groups():
    sequences, _ = some_users(shortest=4, n_users=3)
    groups = LikenessGroups(8, seed=1).fit(catalogue(features_of()), sequences)
    assert len(groups) == 3
    assert set(groups) <= set(range(8))
