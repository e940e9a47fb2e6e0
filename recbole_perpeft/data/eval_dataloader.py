"""Ranking every item for every user, in blocks of users: the loader of full-ranking evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader

# Scores of a block of users: 16 MB on a CPU, for more is new memory at every block and leaves the caches; 64 MB on a
# GPU, where a block should be worth its launches.
_SCORES_OF_A_BLOCK = {"cpu": 2**22, "cuda": 2**24}


@dataclass(frozen=True)
class _ItemLists:
    """Items of every row, end to end.

    Attributes
    ----------
    items : numpy.ndarray
        ``[total]``.
    starts, lengths : numpy.ndarray
        Where a row's items are in ``items``, ``[rows]``; rows may share items.
    """

    items: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[np.ndarray]) -> "_ItemLists":
        """One row for each of ``lists``."""
        lengths = np.array([len(items) for items in lists])
        return cls(np.concatenate(lists), lengths.cumsum() - lengths, lengths)

    def take(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the items of ``rows``: position in ``rows``, and item, both ``[n]``."""
        lengths = self.lengths[rows]
        position = np.repeat(np.arange(len(rows)), lengths)  # [n]
        shift = self.starts[rows] - (lengths.cumsum() - lengths)
        return torch.from_numpy(position), torch.from_numpy(self.items[np.arange(len(position)) + shift[position]])


class FullRankingLoader(FullSortEvalDataLoader):
    """RecBole's full-ranking loader, with blocks that fit a memory budget and a mask that is a setting.

    RecBole masks the history of general models always, that of sequential ones never. Here ``mask_history`` decides
    for both. A sequential model's history is all that the user had bought before: held-out purchases too once they are
    past, such as the validation purchase in the test. That needs data without repeat purchases, in which a target
    stands once in its sequence.

    Blocks are made in this process whatever ``worker`` says: to send them would take longer.
    """

    def __init__(self, config, dataset, sampler, shuffle=False):
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        self._history = None
        if self.is_sequential:
            self._users = dataset.inter_feat[self.uid_field].numpy()  # [rows]
            targets = dataset.inter_feat[self.iid_field].numpy()  # [rows]
            self._positives = _ItemLists.of(targets[:, None])
            if config["mask_history"]:
                self._history = _purchases_before(dataset.sequences, self._users, targets, dataset.item_num)
        else:
            self._users = self.uid_list.numpy()
            self._positives = _ItemLists.of([self.uid2positive_item[user].numpy() for user in self._users])
            if config["mask_history"]:
                self._history = _ItemLists.of([self.uid2history_item[user].numpy() for user in self._users])
        self._groups = np.zeros(dataset.user_num, dtype=np.int64)

    def _init_batch_size_and_step(self):
        scores = _SCORES_OF_A_BLOCK["cuda" if self.config["device"].type == "cuda" else "cpu"]
        # no more than eval_batch_size, for what a backbone computes on its way to the scores needs memory too
        self.step = max(1, min(scores // self._dataset.item_num, self.config["eval_batch_size"]))
        self.set_batch_size(self.step)

    def rank_only(self, candidates: np.ndarray) -> None:
        """Rank no other items than ``candidates [n]`` from now on, the history of the user among them or not."""
        others = np.setdiff1d(np.arange(1, self._dataset.item_num), candidates)
        rows = len(self._users)
        self._history = _ItemLists(others, np.zeros(rows, dtype=np.int64), np.full(rows, len(others)))

    def order_by(self, groups: np.ndarray) -> None:
        """Give blocks of users of one group each from now on, group by group.

        Parameters
        ----------
        groups
            Group of every user id, ``[n_users]``.
        """
        self._groups = groups

    def _blocks(self) -> Iterator[np.ndarray]:
        """Rows of each block; those of a group are spread evenly."""
        rows = np.fromiter(self.sampler, dtype=np.int64)  # a process' own share, where there are several
        groups = self._groups[self._users[rows]]
        for group in np.unique(groups):
            members = rows[groups == group]
            yield from np.array_split(members, -(-len(members) // self.step))

    def __len__(self) -> int:
        return sum(1 for _ in self._blocks())

    def __iter__(self):
        for rows in self._blocks():
            yield self.collate_fn(rows)

    def collate_fn(self, index):
        """What RecBole's loader gives: ``(interaction, history or None, rows of positives, positives)``."""
        rows = np.asarray(index)
        interaction = self.transform(self._dataset, self._dataset[rows]) if self.is_sequential else self.user_df[rows]
        history = None if self._history is None else self._history.take(rows)
        return interaction, history, *self._positives.take(rows)


def _purchases_before(
    sequences: dict[int, np.ndarray], users: np.ndarray, targets: np.ndarray, n_items: int
) -> _ItemLists:
    """What each row's user had bought before the row's target."""
    everyone = np.fromiter(sequences, dtype=np.int64)  # [n]
    whole = _ItemLists.of(list(sequences.values()))
    keys = np.repeat(everyone, whole.lengths) * n_items + whole.items  # [purchases], all different
    order = keys.argsort()
    found = order[np.searchsorted(keys, users * n_items + targets, sorter=order)]  # [rows] each target's place
    start_of = np.zeros(everyone.max() + 1, dtype=np.int64)
    start_of[everyone] = whole.starts
    starts = start_of[users]
    return _ItemLists(whole.items, starts, found - starts)
