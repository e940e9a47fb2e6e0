"""How well scores rank a validation's positives, smoothly enough to tell near settings apart on some of the users."""

from collections.abc import Iterator
from itertools import islice

import torch

from recbole_perpeft.utils import processes

ROWS = 1500  # so many tell settings apart that change a score little from one to the next


def some_batches(loader) -> Iterator[tuple]:
    """Batches of an evaluation's ``loader``, evenly spread, with about 1,500 rows; all, if there are no more.

    Each of several processes gets all of them, and scores its own (:func:`~recbole_perpeft.utils.processes.is_own`).
    """
    with processes.alone():
        rows = len(next(iter(loader))[0])
        chosen = islice(loader, 0, None, max(1, len(loader) * rows // ROWS))
        first = next(chosen)  # by which the loader knows that it gives all of its batches
    yield first
    yield from chosen


def rank_gain(scores: torch.Tensor, positive_u: torch.Tensor, positive_i: torch.Tensor) -> float:
    """Sum of 1 / log2(1 + rank) over the positives: NDCG without an end of the list.

    Parameters
    ----------
    scores
        ``[rows, n_items]``, minus infinity for what is not ranked.
    positive_u, positive_i
        Row and item of each positive, ``[n]``.
    """
    own = scores[positive_u, positive_i]
    rows = scores if len(positive_u) == len(scores) else scores[positive_u]
    above = torch.gt(rows, own[:, None], out=torch.empty_like(rows))
    ranks = 1 + above @ above.new_ones(above.shape[1])  # a product counts five times as fast as a sum of booleans
    return float((1 / torch.log2(1 + ranks.double())).sum())
