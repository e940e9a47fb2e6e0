"""How many items each one stands for as a negative of the softmax over a sample of them."""

from collections.abc import Mapping

import numpy as np

from recbole_perpeft.data.negative_pools import NegativePools


class NegativeWeights:
    """One over how likely an item is in a batch (Horvitz and Thompson, 1952), bought by another user or drawn.

    With group negatives that is a batch of the group, else one of all users. What the group buys then counts for more
    than one item each, as it is in more of its batches. Purchases beyond ``prefixes_per_user`` count as if they were in
    the batch, and users as if drawn by chance.

    Parameters
    ----------
    histories
        User id to that user's training purchases.
    users
        Ids of those who train, ``[n]``.
    groups
        Group of each of them, ``[n]``.
    pools
        Where negatives are drawn from.
    drawn
        How many of a batch are.
    group_negatives
        Whether they are drawn from what the group bought.
    """

    def __init__(
        self,
        histories: Mapping[int, np.ndarray],
        users: np.ndarray,
        groups: np.ndarray,
        pools: NegativePools,
        drawn: int,
        group_negatives: bool,
    ):
        self._histories, self._users, self._groups = histories, users, groups
        self._pools, self._drawn, self._group_negatives = pools, drawn, group_negatives
        self._logarithms: dict[int, np.ndarray] = {}

    def logarithms(self, group: int, users_per_batch: int, n_items: int) -> np.ndarray:
        """The logarithm of how many items each one stands for in a batch of ``group``, ``[n_items]``."""
        if not self._group_negatives:
            group = 0
        if group not in self._logarithms:
            members = self._users[self._groups == group] if self._group_negatives else self._users
            bought = np.concatenate([np.unique(self._histories[user]) for user in members])
            chosen = min((users_per_batch - 1) / max(len(members) - 1, 1), 1.0)
            absent = (1 - chosen) ** np.bincount(bought, minlength=n_items)  # [n_items]
            absent *= 1 - self._pools.shared_probability(self._drawn, group, n_items)
            with np.errstate(divide="ignore"):
                weights = -np.log1p(-absent)
            self._logarithms[group] = np.where(np.isfinite(weights), weights, 0).astype(np.float32)
        return self._logarithms[group]
