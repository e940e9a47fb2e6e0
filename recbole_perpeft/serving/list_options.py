"""What is asked of a list: how long it is, which items it may hold, and what is told of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
from torch import nn

from recbole_perpeft.data.item_lists import ItemLists
from recbole_perpeft.serving.catalogue import Catalogue, ids_of
from recbole_perpeft.utils.errors import RequestError

_OWN_COLUMNS = {"user_id", "rank", "item_id", "score", "group"}


def number_of_groups(model: nn.Module) -> int:
    """How many groups of users a model has; 0 of one without."""
    return model.num_groups if hasattr(model, "user_groups") else 0


@dataclass(frozen=True)
class ListOptions:
    """Of all lists of a request.

    Attributes
    ----------
    k : int
        Items for each user.
    seen : bool
        Whether items that the user has bought already may come again.
    allow, deny : iterable of str or None
        Item ids: no others than these; none of these.
    where : mapping
        Columns of the ``.item`` file and the value, or values, that an item must have there.
    columns : iterable of str
        Columns of the ``.item`` file that are told of each item, such as the title.
    group : bool
        Whether the user's group is told.
    by_group : int or None
        The group whose module alone gives the scores, whoever the user is; None: as in the evaluation.

    Raises
    ------
    RequestError
        If k is no number of items, or ``by_group`` no number of a group.
    """

    k: int = 10
    seen: bool = False
    allow: Iterable[str] | None = None
    deny: Iterable[str] | None = None
    where: Mapping[str, str | Iterable[str]] = field(default_factory=dict)
    columns: Iterable[str] = ()
    group: bool = False
    by_group: int | None = None

    def __post_init__(self):
        if not isinstance(self.k, Integral) or isinstance(self.k, bool) or self.k < 1:
            raise RequestError(f"k: {self.k!r} is no number of items: give 1 or more.")
        if self.by_group is not None and not (isinstance(self.by_group, Integral) and self.by_group >= 0):
            raise RequestError(f"by_group: {self.by_group!r} is no group: give a number from 0 on.")
        if not isinstance(self.where, Mapping):
            raise RequestError(
                f"where: {self.where!r} is no mapping: write a column and its value, as in {{'brand': 'A'}}."
            )

    def allowed(self, catalogue: Catalogue) -> np.ndarray:
        """Whether each item may be in a list, whoever it is for, bool ``[n_items]``; padding may not.

        Raises
        ------
        RequestError
            If an item or a column is unknown, or no item is left.
        """
        allowed = np.ones(len(catalogue), dtype=bool)
        if self.allow is not None:
            allowed[:] = False
            allowed[catalogue.numbers(self.allow)] = True
        if self.deny is not None:
            allowed[catalogue.numbers(self.deny)] = False
        for column, wanted in self.where.items():
            allowed &= _has(catalogue.column(column), column, wanted)
        allowed[0] = False
        if not allowed.any():
            raise RequestError("No item is left by allow, deny and where: leave one of them out.")
        return allowed

    def told(self, catalogue: Catalogue) -> dict[str, np.ndarray]:
        """The values of ``columns`` of each item, ``[n_items]``, by the column's name.

        Raises
        ------
        RequestError
            If a column is unknown, or lists have one of this name themselves.
        """
        names = ids_of("columns", self.columns)
        if own := sorted(_OWN_COLUMNS.intersection(names)):
            raise RequestError(
                f"columns: lists have a column {own[0]!r} of their own: rename that of the .item file, or leave it out."
            )
        return {name: catalogue.column(name) for name in names}

    def check_groups(self, model: nn.Module) -> None:
        """Refuse to tell of groups, or to score by one, where there is none.

        Raises
        ------
        RequestError
            If so.
        """
        groups = number_of_groups(model)
        if not groups and (self.group or self.by_group is not None):
            raise RequestError(f"{type(model).__name__} has no groups of users: leave group and by_group out.")
        if self.by_group is not None and self.by_group >= groups:
            raise RequestError(f"by_group: {self.by_group} does not exist: give one of 0 to {groups - 1}.")

    def check_left(self, bought: ItemLists, rows: np.ndarray, names: np.ndarray, allowed: np.ndarray) -> None:
        """Refuse lists that are longer than the items that are left.

        Parameters
        ----------
        bought
            What users have bought.
        rows, names
            Which of these users are asked for, and what they are called, ``[n]``.
        allowed
            From :meth:`allowed`.

        Raises
        ------
        RequestError
            Names a user.
        """
        left = np.full(len(rows), allowed.sum())
        if not self.seen:
            owners, items = (index.numpy() for index in bought.take(rows))
            pairs = np.sort(owners * len(allowed) + items)
            pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # repeats count once
            np.subtract.at(left, pairs // len(allowed), allowed[pairs % len(allowed)])
        least = int(left.argmin())
        if left[least] < self.k:
            raise RequestError(
                f"k: {self.k} items are more than the {left[least]} that are left for user {names[least]!r}: give a "
                "smaller k, or other filters."
            )


def _has(values: np.ndarray, column: str, wanted: str | Iterable[str]) -> np.ndarray:
    """Which of ``values [n_items]`` are wanted, bool."""
    values_of = wanted if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
    wanted = {str(value) for value in values_of}
    if not wanted:
        raise RequestError(f"where: no value of {column} is given: give one or more, or leave it out.")
    found = np.isin(values, list(wanted))
    if not found[1:].any():
        there = sorted(set(values[1:]))
        shown = ", ".join(map(repr, there[:5])) + (" …" if len(there) > 5 else "")
        asked = " or ".join(map(repr, sorted(wanted)))
        raise RequestError(f"where: no item has {column} {asked}; there is {shown}.")
    return found
