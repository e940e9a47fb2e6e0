"""Items of many users, end to end, and how many users' scores are computed at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

# Scores of a block of users: 16 MB on a CPU, for more is new memory at every block and leaves the caches; 64 MB on a
# GPU, where a block should be worth its launches, and where the memory is kept from block to block.
SCORES_OF_A_BLOCK = {"cpu": 2**22, "cuda": 2**24}
LEAST_ROWS = 16  # of a block: a large catalogue's table, which fits no cache, is read for each


@dataclass(frozen=True)
class ItemLists:
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
    def of(cls, lists: Sequence[np.ndarray]) -> "ItemLists":
        """One row for each of ``lists``."""
        lengths = np.array([len(items) for items in lists])
        return cls(np.concatenate(lists), lengths.cumsum() - lengths, lengths)

    def take(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the items of ``rows``: position in ``rows``, and item, both ``[n]``."""
        lengths = self.lengths[rows]
        position = np.repeat(np.arange(len(rows)), lengths)  # [n]
        shift = self.starts[rows] - (lengths.cumsum() - lengths)
        return torch.from_numpy(position), torch.from_numpy(self.items[np.arange(len(position)) + shift[position]])


def last_items(lists: Iterable[np.ndarray], length: int) -> torch.Tensor:
    """The last ``length`` items of each list, oldest first, padded with zeros at the end, ``[n, length]``."""
    kept = [np.asarray(items, dtype=np.int64)[-length:] for items in lists]
    padded = torch.zeros(len(kept), length, dtype=torch.long)
    for row, items in enumerate(kept):
        padded[row, : len(items)] = torch.from_numpy(items.copy())
    return padded


def rows_of_a_block(n_items: int, config) -> int:
    """How many users' scores of ``n_items`` are computed at a time.

    No more than ``eval_batch_size``, for what a backbone computes on its way to the scores needs memory too.
    """
    scores = SCORES_OF_A_BLOCK[config["device"].type]
    return max(1, min(max(scores // n_items, LEAST_ROWS), config["eval_batch_size"]))
