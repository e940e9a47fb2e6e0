"""The items of a batch as a table of their own: row 0 is padding, row ``i`` is the batch's ``i``-th item."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch


def distinct_items(ids: Iterable[np.ndarray], n_items: int) -> np.ndarray:
    """The catalogue ids among ``ids``, each once, sorted, ``[m]``; neither padding nor mask tokens.

    Parameters
    ----------
    n_items
        Of the catalogue, padding included.
    """
    items = np.unique(np.concatenate([some.ravel() for some in ids]))
    return items[(items > 0) & (items < n_items)]


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
