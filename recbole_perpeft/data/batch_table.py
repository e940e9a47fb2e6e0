"""A batch's items as a table of their own: row 0 is padding, row ``i`` the ``i``-th item; and who has which rows."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from recbole_perpeft.utils import processes


def distinct_items(ids: Iterable[np.ndarray], n_items: int) -> np.ndarray:
    """The catalogue ids among ``ids``, each once, sorted, ``[m]``; neither padding nor mask tokens.

    Parameters
    ----------
    n_items
        Of the catalogue, padding included.
    """
    is_there = np.zeros(n_items, dtype=bool)
    for some in ids:
        is_there[some[some < n_items]] = True
    is_there[0] = False
    return np.flatnonzero(is_there)


def own_users(owner: np.ndarray, number: int) -> np.ndarray | None:
    """Which of the ``number`` users of a batch are this process's, with about as many rows as any other's, sorted.

    Parameters
    ----------
    owner
        Position of each row's user among them, ``[n]``.

    Returns
    -------
    numpy.ndarray or None
        None: all, for there is no other process, or there are fewer users than processes.
    """
    share = processes.share(number)
    if share is None or share.weight < 1:
        return None
    by_rows = np.argsort(-np.bincount(owner, minlength=number), kind="stable")  # dealt out, those of the most first
    return np.sort(by_rows[share.rows])


def rows_of(
    mine: np.ndarray, fields: Mapping[str, torch.Tensor], owner: np.ndarray, users: np.ndarray
) -> tuple[dict[str, torch.Tensor], np.ndarray, np.ndarray, float]:
    """The rows of some of a batch's ``users``, which are ``mine`` by their positions, sorted.

    Returns
    -------
    tuple
        ``fields``, ``owner`` and ``users`` of them alone, and which part of all rows they are.
    """
    position = np.full(len(users), -1)
    position[mine] = np.arange(len(mine))
    owner = position[owner]
    (kept,) = np.nonzero(owner >= 0)
    rows = torch.from_numpy(kept)
    fields = {key: value.index_select(0, rows) for key, value in fields.items()}
    return fields, owner[kept], users[mine], len(kept) / len(owner)


def relabelled(ids: torch.Tensor, items: np.ndarray) -> torch.Tensor:
    """Catalogue ids as rows of the table of ``items [m]``; padding stays 0."""
    values = ids.numpy()
    return torch.from_numpy(np.where(values > 0, np.searchsorted(items, values) + 1, 0))


def barred_rows(items: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
    """What is no negative of a user in the table of ``items [m]``: padding, and what the user bought.

    Parameters
    ----------
    histories
        The training purchases of each user of the batch.

    Returns
    -------
    numpy.ndarray
        bool ``[users, m + 1]``.
    """
    barred = np.zeros((len(histories), len(items) + 1), dtype=bool)
    barred[:, 0] = True
    bought = np.concatenate(histories)  # [purchases]
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    row = np.searchsorted(items, bought)
    there = row < len(items)
    there[there] = items[row[there]] == bought[there]
    barred[users[there], row[there] + 1] = True
    return barred


def barred_ids(elsewhere: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
    """The same in the whole catalogue, bool ``[users, n_items]``; ``elsewhere [n_items]`` is nobody's negative."""
    barred = np.tile(elsewhere, (len(histories), 1))
    barred[:, 0] = True
    for of_user, history in zip(barred, histories, strict=True):
        of_user[history] = True
    return barred
