"""Items as each group sees them: their vectors, their nearest items, and which of them groups see most differently."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from recbole_perpeft.explain.subject import Subject


@torch.no_grad()
def vectors_of(subject: Subject, group: int) -> torch.Tensor:
    """``z(i, g)`` of all items about their mean, of length 1, ``[n_items, d]``; row 0 is zeros.

    About the mean, for what all items share would make any two of them look alike.
    """
    with subject.model.item_tower.catalogue(group):
        rows = subject.model.item_tower.weight[: len(subject.tokens)].float().cpu()
    rows = rows[1:] - rows[1:].mean(dim=0)
    return F.pad(F.normalize(rows, dim=1), (0, 0, 1, 0))


def nearest(vectors: torch.Tensor, item: int, k: int) -> list[tuple[int, float]]:
    """The ``k`` items of the highest cosine to ``item``, best first, and these, of ``vectors [n_items, d]``."""
    cosines = vectors @ vectors[item]
    cosines[[0, item]] = -torch.inf
    values, items = cosines.topk(min(k, len(vectors) - 2))
    return list(zip(items.tolist(), values.tolist(), strict=True))


def agreement(vectors: Sequence[torch.Tensor]) -> np.ndarray:
    """Mean cosine between each pair of groups' vectors of an item, ``[n_items]``; row 0 means nothing."""
    number = len(vectors)
    total = sum(vectors)  # [n_items, d], the sum of unit vectors: its square has every pair twice, and 1 for each
    squares = (total**2).sum(dim=1)
    return ((squares - number) / (number * (number - 1))).numpy()


def seen_most_differently(
    vectors: Sequence[torch.Tensor], known: np.ndarray, titles: Sequence[str] | None, k: int
) -> list[int]:
    """The ``k`` items on whose vectors groups agree least, of those bought in training; of equal titles one.

    Parameters
    ----------
    known
        Numbers of items that somebody bought in training.
    titles
        ``[n_items]``; None without any.
    """
    found: dict[object, int] = {}
    for item in known[np.argsort(agreement(vectors)[known], kind="stable")].tolist():
        found.setdefault(titles[item] if titles else item, item)
        if len(found) == k:
            break
    return list(found.values())
