"""How many batches are encoded together, against batches drawn by chance and catalogues that can be counted by hand."""

import numpy as np
import pytest

from recbole_perpeft.data import encoding_windows
from recbole_perpeft.data.encoding_windows import GroupPurchases, batches_together, encoding_of, purchases_of_groups


def everyone_buys(items, users):
    """A group each of whose users buys all the items: any batch has all of them."""
    return GroupPurchases(users, np.array([users]), np.array([items]), 0.0)


def nobody_shares(items, users):
    """A group each of whose items has one buyer: no item is in two batches."""
    return GroupPurchases(users, np.array([1]), np.array([items]), 0.0)


@pytest.mark.parametrize("batches", [1, 3, 20])
def test_expected_items_are_those_of_batches_drawn_by_chance(batches):
    rng, popularity = np.random.default_rng(7), np.arange(300, 0, -1) / 45150
    histories = [rng.choice(np.arange(1, 301), size=6, replace=False, p=popularity) for _ in range(300)]
    pool, drawn, found = np.arange(1, 301), 4, []
    (group,) = purchases_of_groups(np.zeros(300, int), histories, [pool], drawn)
    for _ in range(1000):
        users = rng.permutation(300)[: batches * 5]
        negatives = [rng.choice(pool, size=drawn, replace=False) for _ in range(batches)]
        found.append(len(np.unique(np.concatenate([*(histories[user] for user in users), *negatives]))))
    assert group.different_items(batches, users_per_batch=5) == pytest.approx(np.mean(found), rel=0.02)


def test_purchases_are_counted_in_each_group_by_itself():
    histories = [np.array([1, 2]), np.array([2, 3, 3]), np.array([2])]
    groups = purchases_of_groups(np.array([0, 2, 2]), histories, [np.arange(1, 5)] * 3, 1)
    assert [group.users for group in groups] == [1, 2]
    assert [dict(zip(group.buyers, group.items, strict=True)) for group in groups] == [{0: 2, 1: 2}, {0: 2, 1: 1, 2: 1}]
    assert [group.drawn for group in groups] == pytest.approx([1 / 4] * 2)


@pytest.mark.parametrize(
    ("groups", "together"),
    [
        ([everyone_buys(100, 400 * 64)], 80),  # five windows, each a pass
        ([everyone_buys(100, 397 * 64)], 80),
        ([everyone_buys(100, 40 * 64)], 8),
        ([everyone_buys(100, 41 * 64)], 9),
        ([everyone_buys(100, 3 * 64)], 8),
        ([everyone_buys(100, 20 * 64)] * 2, 10),  # four passes: a third window of each group would make six
        ([everyone_buys(100, 50 * 64)] * 8, 50),  # eight passes are the least that eight groups take
        ([everyone_buys(100, 30 * 64), everyone_buys(100, 8 * 64)], 8),  # four and one
        ([nobody_shares(100, 400 * 64)], 8),  # each item is encoded once anyway
    ],
)
def test_an_epoch_takes_five_passes_over_the_catalogue_or_as_few_as_can_be(groups, together):
    assert batches_together(groups, users_per_batch=64, n_items=100) == together


@pytest.mark.parametrize(
    ("groups", "together", "share"),
    [
        ([everyone_buys(100, 400 * 64)], 80, 1.0),  # five windows, each a pass
        ([everyone_buys(100, 50 * 64)] * 8, 50, 3 / 8),  # eight passes are the least that eight groups take
        ([everyone_buys(100, 50 * 64)] * 5, 50, 1.0),
        ([everyone_buys(50, 50 * 64)] * 16, 50, 3 / 8),  # each buys half of the catalogue
        ([nobody_shares(10, 50 * 64)] * 8, 8, 1.0),
    ],
)
def test_where_five_passes_are_too_few_for_all_items_a_share_makes_them_three(groups, together, share):
    assert encoding_of(groups, users_per_batch=64, n_items=100) == (together, pytest.approx(share))


def test_negatives_count_as_items_do():
    alone = GroupPurchases(400 * 64, np.array([1]), np.array([100]), 0.0)
    drawn = GroupPurchases(400 * 64, np.array([1]), np.array([100]), 1.0)  # every batch has all items as negatives
    assert [batches_together([group], 64, 100) for group in (alone, drawn)] == [8, 80]


@pytest.mark.parametrize("settings", [{"num_negatives": 12}, {"loss_type": "BPR", "num_negatives": 2}])
def test_a_loader_makes_the_smallest_windows_of_five_passes(prepare, monkeypatch, settings):
    monkeypatch.setattr(encoding_windows, "FEWEST", 2)  # tiny has few users
    _, _, train_data, *_ = prepare(num_groups=3, users_per_batch=1, **settings)
    n_items, size = train_data._dataset.item_num - 1, train_data.together

    def passes(size):
        windows = train_data.windows(size)
        return sum(len(np.unique(np.concatenate([batch.items for batch in window]))) for window in windows) / n_items

    assert 2 < size < 40 == len(train_data)
    assert passes(None) == passes(size) <= 1.05 * 5 < passes(2)
    train_data.set_groups(np.arange(train_data._dataset.user_num) % 3, group_negatives=False)
    assert train_data.together <= 14  # batches of a group, of which together more than five passes cannot be avoided
    assert passes(None) == passes(train_data.together) <= 1.05 * max(5, passes(14))
    assert train_data.encoding.share == (1 if passes(None) < 5 else pytest.approx(3 / passes(None), rel=0.05))


@pytest.mark.parametrize(("peft_type", "together"), [("LORA", 8), ("IISAN", 1), ("NONE", 1)])
def test_items_of_several_batches_are_encoded_together_where_the_foundation_model_runs_in_steps(
    prepare, peft_type, together
):
    _, _, train_data, *_ = prepare(peft_type=peft_type, peft_config={}, users_per_batch=2)
    assert train_data.together == together
    assert {len(window) for window in train_data.windows(None)} <= set(range(1, together + 1))
    assert max(len(window) for window in train_data.windows(3)) == 3
