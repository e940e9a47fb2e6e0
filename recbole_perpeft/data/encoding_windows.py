"""Batches whose items are encoded together: how many, and how many of their items, so that an epoch encodes few."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np

from recbole_perpeft.data.user_batch import UserBatch

FEWEST = 8  # batches together, where the foundation model is the cost of a step (docs/speed.md)
_MOST_PASSES = 5  # over the catalogue in an epoch
_OF_SHARES = 3  # passes where more than these cannot be avoided but by encoding a share of the items (docs/speed.md)


class Encoding(NamedTuple):
    """What is encoded for the steps of an epoch.

    Attributes
    ----------
    together : int
        Batches of a group whose items are encoded together.
    share : float
        Which share of these items is; the others' features are carried on from those last computed.
    """

    together: int
    share: float


@dataclass(frozen=True)
class GroupPurchases:
    """What decides how many different items some batches of a group have.

    Attributes
    ----------
    users : int
        Of the group.
    buyers : numpy.ndarray
        How many of them bought an item, ``[k]``, once for each number that there is.
    items : numpy.ndarray
        How many items they are, ``[k]``.
    drawn : float
        How likely a batch has an item as a negative, whoever bought it.
    """

    users: int
    buyers: np.ndarray
    items: np.ndarray
    drawn: float

    def different_items(self, batches: int, users_per_batch: int) -> float:
        """How many items so many batches of an epoch are expected to have, each counted once."""
        users_left = max(1 - batches * users_per_batch / self.users, 0.0)
        absent = users_left**self.buyers * (1 - self.drawn) ** batches  # [k]
        return float((self.items * (1 - absent)).sum())


def purchases_of_groups(
    groups: np.ndarray, histories: Sequence[np.ndarray], pools: Sequence[np.ndarray], drawn: float
) -> list[GroupPurchases]:
    """Those of each group that has users.

    Parameters
    ----------
    groups
        Of each user who trains, ``[n]``.
    histories
        Items that each of them bought, ``[n]`` arrays.
    pools
        What each group's batches can have: the items that its negatives come from, among which all purchases are.
    drawn
        Negatives of a batch.
    """
    found = []
    for group in np.unique(groups):
        (members,) = np.nonzero(groups == group)
        bought = np.concatenate([np.unique(histories[user]) for user in members])
        pool = pools[group]
        buyers = np.bincount(bought, minlength=pool.max(initial=0) + 1)[pool]
        likely = 1 - (1 - 1 / max(len(pool), 1)) ** drawn
        found.append(GroupPurchases(len(members), *np.unique(buyers, return_counts=True), likely))
    return found


def batches_together(groups: Sequence[GroupPurchases], users_per_batch: int, n_items: int) -> int:
    """The fewest batches whose items, encoded together, take an epoch five passes over the catalogue or less.

    They are no fewer than :data:`FEWEST`, and of about the same number in every window of the largest group. Where each
    group's items encoded once are more than these passes, they are all of a group.

    Parameters
    ----------
    n_items
        Of the catalogue, without padding.
    """
    number = max(ceil(group.users / users_per_batch) for group in groups)
    for windows in range(ceil(number / FEWEST), 1, -1):
        together = max(FEWEST, ceil(number / windows))
        if _encoded(groups, users_per_batch, together) <= _MOST_PASSES * n_items:
            return together
    return max(FEWEST, number)


def encoding_of(groups: Sequence[GroupPurchases], users_per_batch: int, n_items: int) -> Encoding:
    """How an epoch takes five passes or less: by :func:`batches_together`, and else by a share of their items.

    Parameters
    ----------
    n_items
        Of the catalogue, without padding.
    """
    together = batches_together(groups, users_per_batch, n_items)
    passes = _encoded(groups, users_per_batch, together) / n_items
    return Encoding(together, _OF_SHARES / passes if passes > _MOST_PASSES else 1.0)


def _encoded(groups: Sequence[GroupPurchases], users_per_batch: int, together: int) -> float:
    """How many items an epoch is expected to encode."""
    total = 0.0
    for group in groups:
        full, rest = divmod(ceil(group.users / users_per_batch), together)
        total += full * group.different_items(together, users_per_batch)
        total += group.different_items(rest, users_per_batch)
    return total


def windows(batches: Iterable[UserBatch], size: int) -> Iterator[list[UserBatch]]:
    """``size`` batches of one group at a time; a group's last may be fewer.

    Batches come in their order; a group's wait until there are enough of them.
    """
    waiting: dict[int, list[UserBatch]] = {}
    for batch in batches:
        window = waiting.setdefault(batch.group, [])
        window.append(batch)
        if len(window) == size:
            yield waiting.pop(batch.group)
    yield from waiting.values()
