"""Batches of one group, negatives of the group, seeds."""

import numpy as np
import pytest

from recbole_perpeft.errors import DataError
from recbole_perpeft.sampling import GroupBatches, NegativePools


def grouped(prepare, num_groups=3, group_negatives=True, **settings):
    """A loader whose users are in groups by turns, and the group of every user id."""
    _, _, train_data, _, _ = prepare(num_groups=num_groups, **settings)
    groups = np.arange(train_data._dataset.user_num) % num_groups
    train_data.set_groups(groups, group_negatives)
    return train_data, groups


def catalogue_ids(batch, field):
    ids = batch[field].numpy()
    return np.where(ids > 0, np.r_[0, batch.items.numpy()][ids], 0)


@pytest.mark.parametrize("loss_type", ["BCE", "BPR", "CE"])
def test_an_epoch_holds_every_prefix_of_every_user_once(prepare, loss_type):
    train_data, groups = grouped(prepare, loss_type=loss_type, num_negatives=1)
    seen = []
    for batch in train_data:
        users = batch["user_id"].numpy()
        assert (groups[users] == batch.group).all()
        assert len(np.unique(users)) <= 8
        sequences, targets = catalogue_ids(batch, "item_id_list"), catalogue_ids(batch, "item_id")
        for user, sequence, length, target in zip(
            users, sequences, batch["item_length"].tolist(), targets, strict=True
        ):
            history = train_data.histories[int(user)].tolist()
            position = history.index(target)
            assert sequence[:length].tolist() == history[max(0, position - 8) : position]
            assert (sequence[length:] == 0).all()
            seen.append((int(user), position))
    expected = [(user, at) for user, items in train_data.histories.items() for at in range(1, len(items))]
    assert sorted(seen) == expected


def test_held_out_purchases_are_in_no_batch_history_or_pool(prepare):
    train_data, _ = grouped(prepare, loss_type="BPR", num_negatives=1)
    sequences = train_data._dataset.sequences
    for user, items in train_data.histories.items():
        assert items.tolist() == sequences[user][:-2].tolist()


@pytest.mark.parametrize("loss_type", ["BCE", "BPR"])
def test_negatives_are_in_the_groups_pool_and_never_the_users_own(prepare, loss_type):
    train_data, groups = grouped(prepare, loss_type=loss_type, num_negatives=3)
    bought = {
        group: set(np.concatenate([items for user, items in train_data.histories.items() if groups[user] == group]))
        for group in range(3)
    }
    drawn = {group: set() for group in range(3)}
    for epoch in range(6):
        train_data.set_epoch(epoch)
        for batch in train_data:
            negatives = catalogue_ids(batch, "neg_item_id")
            assert len(negatives) % 3 == 0
            for user, negative in zip(batch["user_id"].tolist(), negatives.tolist(), strict=True):
                assert negative in bought[batch.group]
                assert negative not in train_data.histories[user]
                drawn[batch.group].add(negative)
    firsts = {
        group: {int(items[0]) for u, items in train_data.histories.items() if groups[u] == group} for group in range(3)
    }
    assert all(firsts[group] <= drawn[group] for group in range(3))  # a user's first item is in no target


def test_the_softmax_leaves_out_padding_and_own_purchases_and_keeps_the_target(prepare):
    train_data, groups = grouped(prepare, loss_type="CE", num_negatives=6)
    for batch in train_data:
        pool = set(train_data.pools.pools[batch.group].tolist())
        assert set(batch.items.tolist()) <= pool
        columns = np.r_[0, batch.items.numpy()]
        for user, target, excluded in zip(
            batch["user_id"].tolist(), batch["item_id"].tolist(), batch.excluded.numpy(), strict=True
        ):
            assert excluded[0]
            assert not excluded[target]
            own = set(train_data.histories[user].tolist())
            others = np.delete(np.arange(1, len(columns)), target - 1)
            assert [column in own for column in columns[others]] == excluded[others].tolist()


def test_without_group_negatives_they_come_from_all_items(prepare):
    train_data, _ = grouped(prepare, group_negatives=False, loss_type="BPR", num_negatives=1)
    assert all(len(pool) == train_data._dataset.item_num - 1 for pool in train_data.pools.pools)


def everything(train_data, epoch):
    train_data.set_epoch(epoch)
    return [(b.group, b.items.tolist(), {k: v.tolist() for k, v in b.interaction.items()}) for b in train_data]


def test_seed_and_epoch_decide_batches_and_negatives(prepare):
    first, again, other = (grouped(prepare, loss_type="BPR", num_negatives=1, seed=seed)[0] for seed in (1, 1, 2))
    assert everything(first, 3) == everything(again, 3)
    assert everything(first, 3) != everything(again, 4)
    assert everything(first, 3) != everything(other, 3)


@pytest.mark.parametrize("window", ["random", "last"])
def test_prefixes_per_user_keeps_successive_prefixes(prepare, window):
    train_data, _ = grouped(prepare, prefixes_per_user=2, prefix_window=window)
    starts = set()
    for epoch in range(5):
        train_data.set_epoch(epoch)
        for batch in train_data:
            for user in np.unique(batch["user_id"]):
                history = train_data.histories[int(user)].tolist()
                mine = batch["user_id"].numpy() == user
                positions = sorted(history.index(item) for item in catalogue_ids(batch, "item_id")[mine])
                assert len(positions) == min(2, len(history) - 1)
                assert positions[-1] - positions[0] == len(positions) - 1
                starts.add(len(history) - 1 - positions[-1])
    assert (starts == {0}) == (window == "last")


def test_batches_hold_one_group_and_count_right():
    groups = np.array([0] * 5 + [1] * 3 + [2])
    batches = GroupBatches(groups, users_per_batch=2, seed=0)
    drawn = list(batches)
    assert len(drawn) == len(batches) == 3 + 2 + 1
    assert sorted(position for batch in drawn for position in batch) == list(range(9))
    assert all(len(set(groups[batch])) == 1 for batch in drawn)
    orders = set()
    for epoch in range(8):
        batches.epoch = epoch
        orders.add(tuple(int(groups[batch[0]]) for batch in batches))
    assert len(orders) > 1  # batches of all groups are shuffled together


def test_a_user_without_a_negative_is_refused_with_the_cure():
    histories = {1: np.array([1, 2, 3]), 2: np.array([1, 2])}
    groups = np.array([0, 0, 0])
    pools = NegativePools.of_groups(groups, 1, histories)
    with pytest.raises(
        DataError, match=r"Group 0 \(2 users\) bought 3 items.*Lower num_groups, or set group_negatives"
    ):
        pools.check(groups)
    NegativePools.whole_catalogue(5, 1, histories).check(groups)


def test_draws_are_uniform_over_what_is_left():
    histories = {1: np.array([1, 2, 3, 4, 5, 6, 7])}
    pools = NegativePools.whole_catalogue(11, 1, histories)  # items 1 to 10
    drawn = pools.draw(np.ones(6000, dtype=int), 0, np.random.default_rng(0))
    items, counts = np.unique(drawn, return_counts=True)
    assert items.tolist() == [8, 9, 10]
    assert abs(counts - 2000).max() < 200
