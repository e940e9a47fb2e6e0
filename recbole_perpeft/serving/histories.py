"""What is known of users when items are recommended to them: the rows that a model reads, and what they bought."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction, cat_interactions

from recbole_perpeft.data.dataset import SequencePurchases
from recbole_perpeft.data.item_lists import ItemLists, last_items


@dataclass(frozen=True)
class Histories:
    """One row for each user of whom something is known.

    Attributes
    ----------
    users : numpy.ndarray
        User ids, ascending, ``[n]``.
    rows : Interaction
        What the model reads of each, ``[n]``.
    bought : ItemLists
        What each has bought, oldest first, ``[n]``.
    """

    users: np.ndarray
    rows: Interaction
    bought: ItemLists


def known_histories(parts: Sequence[Dataset], before_test: bool = False) -> Histories:
    """The users of a data set's parts.

    Parameters
    ----------
    parts
        Its training, validation and test part.
    before_test
        Whether what was bought in the test part is not known yet: what a model sees in the test.
    """
    if isinstance(parts[0], SequencePurchases):
        return _of_sequences(parts, before_test)
    known = purchases_of(parts, before_test)
    lists = known.training_sequences()
    users = np.fromiter(lists, dtype=np.int64)
    rows = known.join(Interaction({known.uid_field: torch.from_numpy(users)}))
    return Histories(users, rows, ItemLists.of(list(lists.values())))


def purchases_of(parts: Sequence[Dataset], before_test: bool) -> Dataset:
    """A data set of all the purchases that are known, of a general model's ``parts``."""
    train, valid, test = parts
    return train.copy(cat_interactions([part.inter_feat for part in ([train, valid] if before_test else parts)]))


def _of_sequences(parts: Sequence[Dataset], before_test: bool) -> Histories:
    dataset = parts[-1]
    if before_test:
        rows = dataset.inter_feat
        users, targets = (rows[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        order = users.argsort(kind="stable")
        rows = dataset.with_lists(rows[torch.from_numpy(order)])
        sequences, lists = dataset.sequences, []
        for user, target in zip(users[order].tolist(), targets[order].tolist(), strict=True):
            bought = sequences[user]
            lists.append(bought[: np.flatnonzero(bought == target)[-1]])
        return Histories(users[order], rows, ItemLists.of(lists))
    users = np.array(sorted(dataset.sequences), dtype=np.int64)
    lists = [dataset.sequences[user] for user in users.tolist()]
    rows = new_rows(one_row(dataset), lists, users)
    last, row_of = _last_rows(parts)
    ours = np.flatnonzero(np.isin(users, row_of))  # of a user with one purchase there is no row to go on from
    advanced = _with_target(dataset, last[torch.from_numpy(np.searchsorted(row_of, users[ours]))])
    for field in set(advanced.columns) & set(rows.columns):
        rows[field][torch.from_numpy(ours)] = advanced[field].to(rows[field].dtype)
    return Histories(users, rows, ItemLists.of(lists))


def one_row(part: SequencePurchases) -> SequencePurchases:
    """A copy of a part with its first row alone, which tells the columns; no other row and no other part is kept."""
    alone = part.copy(part.with_lists(part.inter_feat[torch.arange(len(part))[:1]]))
    users = alone.inter_feat[alone.uid_field].tolist()
    alone.sequences = {user: part.sequences[user].copy() for user in users}
    alone.parts = alone.ordered = None
    return alone


def new_rows(dataset: Dataset, histories: Sequence[np.ndarray], users: np.ndarray | None = None) -> Interaction:
    """Rows of a sequential model for users of whom nothing is known but the items that they bought.

    Parameters
    ----------
    dataset
        A part of the data set, with lists; names the columns.
    histories
        Item ids of each user, oldest first, ``[n]``.
    users
        User ids ``[n]``; by default all are that of padding, which belongs to nobody.

    Returns
    -------
    Interaction
        ``[n]``, with zeros in all columns but ids, items and lengths.
    """
    n, longest = len(histories), dataset.max_item_list_len
    like = dataset.inter_feat[:1]
    columns = {field: like[field].new_zeros(n, *like[field].shape[1:]) for field in like.columns}
    items = last_items(histories, longest)
    columns[f"{dataset.iid_field}{dataset.config['LIST_SUFFIX']}"] = items
    columns[dataset.item_list_length_field] = (items > 0).sum(dim=1)
    if users is not None:
        columns[dataset.uid_field] = torch.from_numpy(users)
    return Interaction(columns)


def _last_rows(parts: Sequence[Dataset]) -> tuple[Interaction, np.ndarray]:
    """Of all parts' rows each user's last, with lists, and whose each is, ascending."""
    dataset, some = parts[-1], []
    for rows in (part.inter_feat for part in parts):
        users, targets = (rows[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        ends = np.array([dataset.sequences[user][-1] for user in users.tolist()])
        some.append(rows[torch.from_numpy(np.flatnonzero(targets == ends))])
    rows = cat_interactions(some)
    of_last, first = np.unique(rows[dataset.uid_field].numpy()[::-1], return_index=True)  # of repeats the later
    return dataset.with_lists(rows[torch.from_numpy(len(rows) - 1 - first)]), of_last


def _with_target(dataset: Dataset, rows: Interaction) -> Interaction:
    """``rows`` one purchase later: what each was to predict stands at the end of its lists."""
    lengths, longest = rows[dataset.item_list_length_field], dataset.max_item_list_len
    place, full, number = lengths.clamp(max=longest - 1), lengths == longest, torch.arange(len(lengths))
    later = {dataset.item_list_length_field: place + 1}
    for field in rows.columns:
        name = f"{field}{dataset.config['LIST_SUFFIX']}"
        if name in rows.columns:
            lists = rows[name].clone()  # [n, longest, ...]
            lists[full] = lists[full].roll(-1, dims=1)
            lists[number, place] = rows[field].to(lists.dtype)
            later[name] = lists
    return Interaction(later)
