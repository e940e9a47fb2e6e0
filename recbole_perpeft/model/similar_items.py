"""Which items are most alike in content: a frozen graph of items beside the graph of purchases."""

import torch

_ROWS = 1024  # items whose cosines to all others are in memory at a time


def nearest_items(vectors: torch.Tensor, number: int) -> torch.Tensor:
    """The items that are most like each item, itself among them.

    Parameters
    ----------
    vectors
        Of all items, of length 1, ``[n_items, r]``; row 0 is padding.
    number
        How many, at most all.

    Returns
    -------
    torch.LongTensor
        ``[n_items, number]``; row 0 is zeros.
    """
    number = min(number, len(vectors) - 1)
    nearest = [torch.zeros(1, number, dtype=torch.long, device=vectors.device)]
    for rows in vectors[1:].split(_ROWS):
        nearest.append((rows @ vectors[1:].T).topk(number, dim=1).indices + 1)
    return torch.cat(nearest)
