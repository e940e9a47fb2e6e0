"""Purchases in memory, as numbers, and the filters that need all of them."""

from collections.abc import Iterable, Sequence
from logging import getLogger

import numpy as np

from recbole_perpeft.data.sources.ids import unusable
from recbole_perpeft.utils.errors import DataError

_SHOWN = 5


class Codes(dict):
    """Ids -> numbers from 0 on, in the order in which they were first asked for."""

    def __missing__(self, one: str) -> int:
        self[one] = code = len(self)
        return code

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """The numbers of ``ids`` [n]: int32 [n]."""
        return np.fromiter(map(self.__getitem__, ids), dtype=np.int32, count=len(ids))


class Purchases:
    """Purchases, in the order of their file.

    Parameters
    ----------
    users, items
        Ids by their numbers.
    user, item
        Numbers, int32 ``[n]``.
    values
        Other columns of numbers, such as ``timestamp`` and ``rating``, each ``[n]``.
    """

    def __init__(
        self,
        users: Sequence[str],
        items: Sequence[str],
        user: np.ndarray,
        item: np.ndarray,
        values: dict[str, np.ndarray],
    ):
        self.users, self.items = users, items
        self.user, self.item, self.values = user, item, values

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> "Purchases":
        """Those of ``rows``, a mask or positions."""
        values = {name: column[rows] for name, column in self.values.items()}
        return Purchases(self.users, self.items, self.user[rows], self.item[rows], values)

    def bought(self) -> list[str]:
        """Ids of the items that are left, in the order in which they were first seen."""
        return [self.items[code] for code in np.unique(self.item)]

    def __str__(self) -> str:
        return f"{len(np.unique(self.user)):,} users, {len(np.unique(self.item)):,} items, {len(self):,} purchases"


class PurchaseCollector:
    """Takes purchases block by block, and holds them as numbers: 8 bytes each and what their columns need.

    Parameters
    ----------
    columns
        Names of the columns of numbers, with their types.
    """

    def __init__(self, columns: dict[str, type]):
        self.users, self.items = Codes(), Codes()
        self._columns = columns
        self._blocks: dict[str, list[np.ndarray]] = {name: [] for name in ("user", "item", *columns)}

    def add(self, users: Sequence[str], items: Sequence[str], **values: Iterable[float]) -> None:
        """Take a block of purchases; ``values`` are the columns."""
        self._blocks["user"].append(self.users.of(users))
        self._blocks["item"].append(self.items.of(items))
        for name, kind in self._columns.items():
            self._blocks[name].append(np.array(values[name], dtype=kind))

    def purchases(self) -> Purchases:
        """All that was taken; to be called once."""
        arrays = {}
        for name in list(self._blocks):
            blocks = self._blocks.pop(name)
            arrays[name] = np.concatenate(blocks) if blocks else np.empty(0, self._columns.get(name, np.int32))
        return Purchases(list(self.users), list(self.items), arrays.pop("user"), arrays.pop("item"), arrays)


def filtered(purchases: Purchases, source: object, k_core: int = 0, repeats: bool = False) -> Purchases:
    """Leave out what atomic files cannot hold, repeats and what is not in the core; the log says how much each took.

    Parameters
    ----------
    source
        The file, for messages.
    k_core
        Purchases that each user and each item must have.
    repeats
        Whether repeat purchases of an item stay where there is no ``k_core``. Else the earliest is kept.

    Raises
    ------
    DataError
        If nothing is left.
    """
    if not len(purchases):
        raise DataError(f"{source} has no purchases, or none that the options keep.")
    read, log = str(purchases), getLogger().info
    purchases = _with_usable_ids(purchases, source)
    if not repeats or k_core > 1:  # or users would be counted with purchases that a run leaves out
        before = len(purchases)
        purchases = purchases.take(_firsts(purchases))
        log(f"Repeat purchases of an item, of which the first is kept: {before - len(purchases):,} left out")
    if k_core > 1:
        before = len(purchases)
        purchases = purchases.take(core(purchases.user, purchases.item, k_core))
        log(f"--k_core {k_core}: {before - len(purchases):,} purchases left out")
    if not len(purchases):
        cure = f"--k_core {k_core} is more than they have: take a smaller one." if k_core > 1 else "Correct their ids."
        raise DataError(f"Of {source} nothing is left: {read} were read. {cure}")
    log(f"Kept: {purchases}")
    return purchases


def _with_usable_ids(purchases: Purchases, source: object) -> Purchases:
    for what, ids, of in (("user", purchases.users, "user"), ("item", purchases.items, "item")):
        bad = set(unusable(ids))
        if not bad:
            continue
        codes = np.flatnonzero(np.fromiter((one in bad for one in ids), bool, count=len(ids)))
        rows = ~np.isin(getattr(purchases, of), codes)
        shown = ", ".join(repr(one) for one in sorted(bad)[:_SHOWN]) + (", …" if len(bad) > _SHOWN else "")
        getLogger().warning(
            f"{len(bad):,} {what} ids of {source} cannot stand in atomic files (they are empty or words for a missing "
            f"value, or hold tabs, line breaks or quotation marks): {shown}. Their {int((~rows).sum()):,} purchases "
            "are left out."
        )
        purchases = purchases.take(rows)
    return purchases


def _firsts(purchases: Purchases) -> np.ndarray:
    """Positions, in the order of the file, of each user's earliest purchase of each item."""
    pairs = purchases.user.astype(np.int64) * len(purchases.items) + purchases.item
    times = purchases.values.get("timestamp")
    if times is None:
        return np.sort(np.unique(pairs, return_index=True)[1])
    order = np.argsort(times, kind="stable")
    return np.sort(order[np.unique(pairs[order], return_index=True)[1]])


def core(user: np.ndarray, item: np.ndarray, k: int) -> np.ndarray:
    """Positions ``[m]`` of the purchases in the k-core: of what is left, each user and each item has at least ``k``.

    There is one largest such set, whatever is taken out first.
    """
    rows = np.arange(len(user))
    while True:
        enough = (np.bincount(user[rows]) >= k)[user[rows]] & (np.bincount(item[rows]) >= k)[item[rows]]
        if enough.all():
            return rows
        rows = rows[enough]
