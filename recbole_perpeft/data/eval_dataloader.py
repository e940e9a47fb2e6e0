"""Ranking every item for every user, in blocks of users: the loader of full-ranking evaluation."""

import numpy as np
from recbole.data.dataloader import FullSortEvalDataLoader

from recbole_perpeft.data.item_lists import ItemLists, rows_of_a_block
from recbole_perpeft.utils import processes


class FullRankingLoader(FullSortEvalDataLoader):
    """RecBole's full-ranking loader, with blocks that fit a memory budget and a mask that is a setting.

    Of several processes each gives some of the blocks.

    RecBole masks the history of general models always, that of sequential ones never. Here ``mask_history`` decides
    for both. A sequential model's history is all that the user had bought before: held-out purchases too once they are
    past, such as the validation purchase in the test. That needs data without repeat purchases, in which a target
    stands once in its sequence.

    Blocks are made in this process whatever ``worker`` says: to send them would take longer.
    """

    def __init__(self, config, dataset, sampler, shuffle=False):
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        if self.is_sequential:
            self._users = dataset.inter_feat[self.uid_field].numpy()  # [rows]
            self._positives = ItemLists.of(dataset.inter_feat[self.iid_field].numpy()[:, None])
        else:
            self._users = self.uid_list.numpy()
            self._positives = ItemLists.of([self.uid2positive_item[user].numpy() for user in self._users])
        self._history = self._masked()
        self._groups = np.zeros(dataset.user_num, dtype=np.int64)

    def _masked(self) -> ItemLists | None:
        """What is not ranked, of every row."""
        if not self.config["mask_history"]:
            return None
        if not self.is_sequential:
            return ItemLists.of([self.uid2history_item[user].numpy() for user in self._users])
        targets = self._positives.items  # one a row
        return _purchases_before(self._dataset.sequences, self._users, targets, self._dataset.item_num)

    def _init_batch_size_and_step(self):
        self.step = rows_of_a_block(self._dataset.item_num, self.config)
        self.set_batch_size(self.step)

    def rank_only(self, candidates: np.ndarray) -> None:
        """Rank no other items than ``candidates [n]`` from now on, the history of the user among them or not."""
        others = np.setdiff1d(np.arange(1, self._dataset.item_num), candidates)
        rows = len(self._users)
        self._history = ItemLists(others, np.zeros(rows, dtype=np.int64), np.full(rows, len(others)))

    def order_by(self, groups: np.ndarray) -> None:
        """Give blocks of users of one group each from now on, group by group.

        Parameters
        ----------
        groups
            Group of every user id, ``[n_users]``.
        """
        self._groups = groups

    def rows_in_order(self) -> np.ndarray:
        """All rows, group by group, ``[rows]``."""
        return self._groups[self._users].argsort(kind="stable")

    def blocks_of(self, rows: np.ndarray) -> list[np.ndarray]:
        """The ``rows [n]`` of each block; those of a group are spread evenly."""
        number = processes.count()
        step = min(self.step, -(-len(self._users) // number))  # a block for each process at least
        groups = self._groups[self._users[rows]]
        blocks = []
        for group in np.unique(groups):
            members = rows[groups == group]
            blocks += np.array_split(members, -(-len(members) // step))
        return blocks[processes.rank() :: number] if number > 1 else blocks

    def _blocks(self) -> list[np.ndarray]:
        return self.blocks_of(self.rows_in_order())

    def __len__(self) -> int:
        return len(self._blocks())

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
) -> ItemLists:
    """What each row's user had bought before the row's target."""
    everyone = np.fromiter(sequences, dtype=np.int64)  # [n]
    whole = ItemLists.of(list(sequences.values()))
    keys = np.repeat(everyone, whole.lengths) * n_items + whole.items  # [purchases], all different
    order = keys.argsort()
    found = order[np.searchsorted(keys, users * n_items + targets, sorter=order)]  # [rows] each target's place
    start_of = np.zeros(everyone.max() + 1, dtype=np.int64)
    start_of[everyone] = whole.starts
    starts = start_of[users]
    return ItemLists(whole.items, starts, found - starts)
