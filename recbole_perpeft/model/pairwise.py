"""Scores of all items by models that score a user with one item at a time."""

from collections.abc import Callable

import torch
from recbole.data.interaction import Interaction


def scores_of_pairs(
    predict: Callable[[Interaction], torch.Tensor], interaction: Interaction, items: Interaction, at_once: int
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
    at_once
        Pairs that are scored at a time, ``eval_batch_size`` as in RecBole: ConvNCF has images of each pair in memory.
    """
    n_items, scores = len(items), []
    for some in torch.arange(len(interaction) * n_items).split(at_once):
        pairs = interaction[some // n_items]
        pairs.update(items[some % n_items])
        scores.append(predict(pairs).view(len(pairs)))
    return torch.cat(scores).view(len(interaction), n_items)
