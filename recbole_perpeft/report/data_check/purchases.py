"""The purchases of a file as they are in it, before any filter."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from recbole_perpeft.config.atomic_files import read_header
from recbole_perpeft.data.sources.purchases import core
from recbole_perpeft.report.data_check.findings import Findings
from recbole_perpeft.utils.errors import DataError

CORE = 5
_LATEST = 4_102_444_800  # the year 2100, in seconds since 1970
_EARLIEST = 315_532_800  # 1980


class Purchases(NamedTuple):
    """The purchases whose ids are known, in the order of the file.

    Attributes
    ----------
    users, items : numpy.ndarray
        Numbers from 0, ``[n]``.
    times : numpy.ndarray or None
        float64 ``[n]``, not a number where the file has none; None without the column.
    item_ids : list of str
        Ids by number.
    without_ids : int
        How many more there are whose user or item is missing.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None
    item_ids: list[str]
    without_ids: int


def read_purchases(files: list[Path], config) -> Purchases:
    """Read users, items and times; lines that pandas cannot read are left out.

    Raises
    ------
    DataError
        If a file has no columns of users and items, or cannot be read.
    """
    user, item, time = (config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"))
    parts = []
    for file in files:
        names = list(read_header(file, config))
        missing = [name for name in (user, item) if name not in names]
        if missing:
            raise DataError(f"{file} has no column {missing[0]!r}; its header has {', '.join(names)}.")
        wanted = [name for name in (user, item, time) if name in names]
        separator = config["field_separator"]
        try:
            parts.append(
                pd.read_csv(
                    file,
                    sep=separator,
                    engine="c" if len(separator) == 1 else "python",
                    header=0,
                    names=names,
                    usecols=wanted,
                    dtype={user: "category", item: "category", time: str},
                    index_col=False,
                    encoding=config["encoding"] or "utf-8",
                    on_bad_lines="skip",
                )
            )
        except (ValueError, OSError) as error:
            raise DataError(f"{file} cannot be read: {error}") from error
    table = pd.concat([part.astype({user: object, item: object}) for part in parts]) if len(parts) > 1 else parts[0]
    known = table[[user, item]].notna().all(axis=1).to_numpy()
    users, _ = pd.factorize(table[user][known])
    items, item_ids = pd.factorize(table[item][known])
    times = pd.to_numeric(table[time][known], errors="coerce").to_numpy(np.float64) if time in table else None
    return Purchases(users, items, times, [str(token) for token in item_ids], int((~known).sum()))


def describe(purchases: Purchases, findings: Findings, section: str, longest: int | None) -> None:
    """Add the figures of a file of purchases, and what is odd about its times.

    Parameters
    ----------
    longest
        Purchases of a user that a model reads; None: all.
    """
    users, items, n = purchases.users, purchases.items, len(purchases.users)
    add = findings.add
    if not n:
        findings.error("The data set has no purchases: its .inter file has no line with a user and an item.")
        return
    by_user, by_item = np.bincount(users), np.bincount(items)
    add(section, "users", f"{len(by_user):,}")
    add(section, "items", f"{len(by_item):,}")
    add(section, "purchases", f"{n:,}, {_share(n / (len(by_user) * len(by_item)))} of all pairs of user and item")
    if purchases.without_ids:
        add(section, "without ids", f"{purchases.without_ids:,} lines lack user or item (NA, null and None count so)")
    read = (
        f", {_of((by_user > longest).sum(), len(by_user))} more than {longest} (MAX_ITEM_LIST_LENGTH)"
        if longest
        else ""
    )
    add(section, "of a user", f"{_spread(by_user)}{read}")
    add(section, "of an item", f"{_spread(by_item)}, {_of((by_item == 1).sum(), len(by_item))} bought once")
    pairs = users.astype(np.int64) * len(by_item) + items
    add(section, "repeats", _of(n - len(np.unique(pairs)), n) + " are of an item that the user had bought")
    _describe_times(purchases, findings, section)
    left = core(users, items, CORE)
    left_users, left_items = (len(np.unique(of[left])) for of in (users, items))
    add(
        section,
        f"{CORE}-core",
        f"would leave {left_users:,} users, {left_items:,} items, {len(left):,} purchases",
    )
    findings.lengths["purchases of a user"] = by_user.tolist()
    findings.lengths["purchases of an item"] = by_item.tolist()


def _describe_times(purchases: Purchases, findings: Findings, section: str) -> None:
    times, n = purchases.times, len(purchases.users)
    if times is None:
        findings.add(section, "times", "none")
        return
    known = np.isfinite(times)
    if not known.any():
        findings.add(section, "times", "none is a number")
        return
    first, last = times[known].min(), times[known].max()
    dates = ""
    if first > _EARLIEST and last < _LATEST:
        dates = f" ({pd.Timestamp(first, unit='s'):%Y-%m-%d} to {pd.Timestamp(last, unit='s'):%Y-%m-%d})"
    lacking = f"; {_of(n - known.sum(), n)} have none" if not known.all() else ""
    findings.add(section, "times", f"{first:.0f} to {last:.0f}{dates}{lacking}")
    order = np.lexsort((times, purchases.users))
    users, times = purchases.users[order], times[order]
    tied = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    ends = np.flatnonzero(np.r_[users[1:] != users[:-1], True])  # [n_users], each user's last purchase
    last_tied = np.r_[False, tied][ends].sum()
    findings.add(
        section, "ties in time", f"{_of(tied.sum(), n)} at the time of the user's one before; the last of "
        f"{_of(last_tied, len(ends))} users"
    )  # fmt: skip
    if last_tied > len(ends) / 2:
        findings.warn(
            f"The last two purchases of {_of(last_tied, len(ends))} users have the same time, so the order of the file "
            "decides which of them is the test. Give finer times, if there are any."
        )


def _spread(counts: np.ndarray) -> str:
    return f"{counts.min():,} to {counts.max():,}, median {np.median(counts):g}"


def _of(part: int, whole: int) -> str:
    return f"{int(part):,} of {int(whole):,}"


def _share(share: float) -> str:
    return f"{100 * share:.2g} %"
