"""Batches of one group, negatives of the group, seeds."""

import numpy as np
import pytest

from recbole_perpeft.data import user_batch
from recbole_perpeft.data.group_batches import GroupBatches
from recbole_perpeft.data.user_batch import users_of_a_batch
from recbole_perpeft.utils import processes
from recbole_perpeft.utils.launch import Place


def grouped(prepare, num_groups=3, group_negatives=True, **settings):
    """A loader whose users are in groups by turns, and the group of every user id."""
    _, _, train_data, _, _ = prepare(num_groups=num_groups, **settings)
    groups = np.arange(train_data._dataset.user_num) % num_groups
    train_data.set_groups(groups, group_negatives)
    return train_data, groups


def catalogue_ids(batch, field):
    ids = batch[field].numpy()
    return ids if batch.whole else np.where(ids > 0, np.r_[0, batch.items.numpy()][ids], 0)


@pytest.mark.parametrize(("loss_type", "num_negatives"), [("BCE", 1), ("BPR", 1), ("CE", 1), ("CE", None)])
def test_an_epoch_holds_every_prefix_of_every_user_once(prepare, loss_type, num_negatives):
    train_data, groups = grouped(prepare, loss_type=loss_type, num_negatives=num_negatives)
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


@pytest.mark.parametrize("num_negatives", [6, None])
@pytest.mark.parametrize("group_negatives", [True, False])
@pytest.mark.parametrize("prefixes", [None, 2])
def test_candidates_of_the_softmax_are_the_target_and_what_the_user_never_bought(
    prepare, num_negatives, group_negatives, prefixes
):
    train_data, groups = grouped(
        prepare,
        loss_type="CE",
        num_negatives=num_negatives,
        prefixes_per_user=prefixes,
        group_negatives=group_negatives,
    )
    n_items, barred = train_data._dataset.item_num, 0
    for batch in train_data:
        pool = set(range(1, n_items))
        if group_negatives:
            members = [items for user, items in train_data.histories.items() if groups[user] == batch.group]
            pool = set(np.concatenate(members).tolist())
        assert batch.whole == (num_negatives is None)
        columns = list(range(n_items)) if batch.whole else [0, *batch.items.tolist()]
        assert batch.excluded.shape == (len(batch), len(columns))
        for user, target, excluded in zip(
            batch["user_id"].tolist(), catalogue_ids(batch, "item_id"), batch.excluded.tolist(), strict=True
        ):
            for column, left_out in zip(columns, excluded, strict=True):
                own = column in train_data.histories[user]
                assert left_out == (column != target and (column not in pool or own))
                barred += left_out and column > 0 and not own
    assert (barred > 0) == (num_negatives is None and group_negatives)  # of a small table all items are in the pool


def test_the_whole_catalogue_needs_the_content_of_the_batchs_own_items(prepare):
    train_data, _ = grouped(prepare, loss_type="CE", num_negatives=None)
    for batch in train_data:
        ids = np.r_[batch["item_id_list"].numpy().ravel(), batch["item_id"].numpy()]
        assert batch.items.tolist() == sorted(set(ids.tolist()) - {0})


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
def test_what_recbole_draws_beside_masked_items_is_encoded_where_the_loss_reads_it(prepare, loss_type):
    _, _, train_data, _, _ = prepare(model="PerPEFTBERT4Rec", loss_type=loss_type, num_negatives=None)
    left_out = 0
    for batch in train_data:
        drawn = np.setdiff1d(batch["Neg_item_id"].numpy(), 0)  # 0 is padding
        left_out += len(np.setdiff1d(drawn, batch.items.numpy()))
    assert (left_out > 0) == (loss_type == "CE")


@pytest.mark.parametrize("num_negatives", [6, None])
def test_a_moved_batch_is_the_same_batch(prepare, num_negatives):
    train_data, _ = grouped(prepare, loss_type="CE", num_negatives=num_negatives)
    batch = next(iter(train_data))
    moved = batch.to("cpu")
    assert (moved.group, moved.whole) == (batch.group, batch.whole)
    assert moved.items.tolist() == batch.items.tolist()
    assert moved.excluded.tolist() == batch.excluded.tolist()
    assert {k: v.tolist() for k, v in moved.interaction.items()} == {
        k: v.tolist() for k, v in batch.interaction.items()
    }


def test_without_group_negatives_they_come_from_all_items(prepare):
    train_data, _ = grouped(prepare, group_negatives=False, loss_type="BPR", num_negatives=1)
    assert all(len(pool) == train_data._dataset.item_num - 1 for pool in train_data.pools.pools)


def everything(train_data, epoch):
    train_data.set_epoch(epoch)
    return [(b.group, b.items.tolist(), {k: v.tolist() for k, v in b.interaction.items()}) for b in train_data]


@pytest.mark.parametrize("settings", [{"loss_type": "BPR", "num_negatives": 1}, {"num_negatives": None}])
def test_seed_and_epoch_decide_batches_and_negatives(prepare, settings):
    first, again, other = (grouped(prepare, seed=seed, **settings)[0] for seed in (1, 1, 2))
    assert everything(first, 3) == everything(again, 3)
    assert everything(first, 3) != everything(again, 4)
    assert everything(first, 3) != everything(other, 3)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("users_per_batch", [5, 3])
def test_windows_hold_every_batch_once_and_one_group(prepare, size, users_per_batch):
    train_data, _ = grouped(prepare, users_per_batch=users_per_batch, num_negatives=2)

    def of(batches):
        return [(batch.group, batch["user_id"].tolist(), batch.items.tolist()) for batch in batches]

    order = of(train_data)
    windows = [of(window) for window in train_data.windows(size)]
    sizes = {group: [len(window) for window in windows if window[0][0] == group] for group in range(3)}
    for group in range(3):
        in_windows = [batch for window in windows if window[0][0] == group for batch in window]
        assert in_windows == [batch for batch in order if batch[0] == group]  # one group, all its batches, in order
        *full, last = sizes[group]
        assert all(n == size for n in full)
        assert 1 <= last <= size
    assert any(group_sizes[-1] < size for group_sizes in sizes.values()) == (size > 1)  # or odd numbers are not shown
    if size == 1:
        assert [window[0] for window in windows] == order
    else:
        assert any(first[0][0] != second[0][0] for first, second in zip(windows, windows[1:], strict=False))


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
def test_processes_have_the_rows_of_some_users_each_about_as_many_and_all_items(prepare, loss_type):
    train_data, _ = grouped(prepare, loss_type=loss_type, num_negatives=2, users_per_batch=7)

    def rows(batch):
        fields = [batch["user_id"].numpy(), batch["item_length"].numpy(), catalogue_ids(batch, "item_id")]
        return [*zip(*(field.tolist() for field in fields), strict=True)]

    of_one, of_each = list(train_data), []
    for rank in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processes.state, "place", Place(rank, 2, rank, 2, "localhost", 0))
            of_each.append(list(train_data))
    assert all(batch.part is None for batch in of_one)
    for batch, *parts in zip(of_one, *of_each, strict=True):
        assert sorted(rows(parts[0]) + rows(parts[1])) == sorted(rows(batch))
        assert not set(parts[0].users.tolist()) & set(parts[1].users.tolist())
        most = max(np.bincount(batch.owner.numpy()))
        assert abs(len(parts[0]) - len(parts[1])) <= most
        for part in parts:
            assert part.items.tolist() == batch.items.tolist()
            assert part.part == len(part) / len(batch)
            at = [batch.users.tolist().index(user) for user in part.users.tolist()]
            assert (part.barred == batch.barred[at]).all()
            assert (part.users[part.owner] == part["user_id"]).all()
            own = part["user_id"], part["item_length"], part["item_id_list"]
            for row, which in enumerate(part.passes[part.pass_of].tolist()):  # its pass begins as the row does
                assert own[0][which] == own[0][row]
                assert (own[2][which][: own[1][row]] == own[2][row][: own[1][row]]).all()


def test_rows_that_come_again_for_a_further_negative_have_passes_of_their_own(prepare):
    """Of one user whose first row could follow on its last: they are of two sequences."""
    long = {"MAX_ITEM_LIST_LENGTH": 4, "sequence_stride": 2, "prefixes_per_user": 2}
    train_data, _ = grouped(prepare, loss_type="BPR", num_negatives=2, users_per_batch=1, **long)
    lengths = set()
    for batch in train_data:
        sequences, length = batch["item_id_list"], batch["item_length"]
        lengths.add(tuple(length.tolist()))
        for row, which in enumerate(batch.passes[batch.pass_of].tolist()):
            assert (sequences[which][: length[row]] == sequences[row][: length[row]]).all()
    assert (4, 3, 4, 3) in lengths  # the third row is one longer than the second


def test_prefixes_per_user_keeps_the_last_prefixes(prepare):
    train_data, _ = grouped(prepare, prefixes_per_user=2)
    for batch in train_data:
        for user in np.unique(batch["user_id"]):
            history = train_data.histories[int(user)].tolist()
            mine = batch["user_id"].numpy() == user
            positions = sorted(history.index(item) for item in catalogue_ids(batch, "item_id")[mine])
            assert positions == list(range(1, len(history)))[-2:]


@pytest.mark.parametrize(("stride", "least"), [(1, 4), (2, 3), (None, 3)])
def test_long_sequences_begin_at_every_so_many_th_purchase(prepare, stride, least):
    train_data, _ = grouped(prepare, MAX_ITEM_LIST_LENGTH=4, sequence_stride=stride)
    passes = {}
    for batch in train_data:
        sequences, targets = catalogue_ids(batch, "item_id_list"), catalogue_ids(batch, "item_id")
        for user, sequence, length, target in zip(
            batch["user_id"].tolist(), sequences, batch["item_length"].tolist(), targets, strict=True
        ):
            history = train_data.histories[user].tolist()
            at = history.index(target)  # nobody in the tests' shop buys an item twice
            assert sequence[:length].tolist() == history[at - length : at]
            assert not sequence[length:].any()
            assert length == at if at < 4 else least <= length <= 4
            passes.setdefault(user, set()).add(at - length)
        assert len(batch.passes) == sum(len(passes[user]) for user in batch["user_id"].unique().tolist())
    if least == 3:
        assert all(start % 2 == 0 for starts in passes.values() for start in starts)


@pytest.mark.parametrize(("rows", "users"), [(8, 64), (16, 64), (100, 10), (5000, 1)])
def test_a_batch_has_64_users_or_fewer_with_many_rows(rows, users):
    assert users_of_a_batch(rows) == users


def test_how_many_users_train_together_follows_from_their_prefixes(prepare, monkeypatch):
    monkeypatch.setattr(user_batch, "_ROWS", 40)
    train_data, _ = grouped(prepare, users_per_batch=None)
    prefixes = [len(history) - 1 for history in train_data.histories.values() if len(history) > 1]
    assert train_data.users_per_batch == round(40 / np.mean(prefixes))
    assert max(len(batch.users) for batch in train_data) <= train_data.users_per_batch
    shorter, _ = grouped(prepare, users_per_batch=None, prefixes_per_user=2)
    assert shorter.users_per_batch == round(40 / np.minimum(prefixes, 2).mean())


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


@pytest.mark.parametrize(("num_groups", "group_negatives"), [(2, True), (1, False)])
def test_a_negative_stands_for_one_over_how_often_it_is_drawn(prepare, num_groups, group_negatives):
    settings = {"user_sample": 16, "num_negatives": 3, "users_per_batch": 4, "correct_sampling": True}
    train_data, groups = grouped(prepare, num_groups, group_negatives, **settings)
    members = [user for user in train_data.users if groups[user] == 0]
    own = set(train_data.histories[members[0]].tolist())
    times, found, batches = np.zeros(train_data._dataset.item_num), {}, 0
    for epoch in range(400):
        train_data.set_epoch(epoch)
        for batch in train_data:
            if members[0] not in batch.users or len(batch.users) < 4:
                continue
            batches += 1
            times[batch.items.numpy()] += 1
            expected = np.exp(-batch.log_weights.numpy()[1:])
            assert batch.log_weights.shape == (len(batch.items) + 1,)
            for item, probability in zip(batch.items.tolist(), expected, strict=True):
                found[item] = probability
    others = [item for item in found if item not in own]
    assert len(others) > 5
    assert batches > 200
    assert max(abs(times[item] / batches - found[item]) for item in others) < 0.1


def test_without_group_negatives_one_stands_for_as_many_as_in_batches_of_all_users(prepare):
    settings = {"user_sample": 16, "num_negatives": 3, "users_per_batch": 4, "correct_sampling": True}
    by_groups, groups = grouped(prepare, 4, False, **settings)
    together, _ = grouped(prepare, 1, False, **settings)
    weights = {}
    for batch in together:
        weights |= dict(zip(batch.items.tolist(), batch.log_weights[1:].tolist(), strict=True))
    seen = set()
    for batch in by_groups:
        for item, weight in zip(batch.items.tolist(), batch.log_weights[1:].tolist(), strict=True):
            if item in weights:
                assert weight == weights[item]
                seen.add(batch.group)
    assert seen == set(groups[by_groups.users].tolist())
    assert len(seen) == 4


def test_all_items_of_a_whole_softmax_count_once(prepare):
    train_data, _ = grouped(prepare, num_negatives=None, correct_sampling=True)
    assert all(batch.log_weights is None for batch in train_data)


def test_a_table_with_rows_for_each_user_repeats_the_weights(prepare):
    train_data, _ = grouped(prepare, num_negatives=3, users_per_batch=4, correct_sampling=True)
    batch = next(iter(train_data))
    weights = batch.by_user().log_weights
    rows = weights[1:].view(len(batch.users), len(batch.items))
    assert weights[0] == batch.log_weights[0]
    assert all(row.tolist() == batch.log_weights[1:].tolist() for row in rows)
    assert weights.shape == batch.by_user().barred.shape[1:]
