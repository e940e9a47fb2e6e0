"""Scores of all items by models that score a user with one item at a time."""

from collections.abc import Callable

import torch
from recbole.data.interaction import Interaction

_SCORES_AT_ONCE = 2**18


def scores_of_pairs(
    predict: Callable[[Interaction], torch.Tensor], interaction: Interaction, items: Interaction
) -> torch.Tensor:
    """Scores of all items for each row, ``[n, n_items]``.

    Parameters
    ----------
    predict
        Gives the score of each row's item, ``[rows]``.
    interaction
        Rows without an item, or with one that does not matter, ``[n]``.
    items
        A row for each item of the catalogue, padding first, ``[n_items]``.
    """
    n_items, scores = len(items), []
    for row in range(0, len(interaction), step := max(1, _SCORES_AT_ONCE // n_items)):
        part = interaction[row : row + step]
        pairs = part.repeat_interleave(n_items)
        pairs.update(items.repeat(len(part)))
        scores.append(predict(pairs).view(len(part), -1))
    return torch.cat(scores)
