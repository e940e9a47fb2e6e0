"""Weights that stand in for others for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

_ROWS = 65_536  # of a table that change places at a time


@contextmanager
def in_place(parameters: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let ``parameters`` (their data, without gradient) be ``values`` for a while, and ``values`` what these were.

    They change places, some rows at a time, so that no large table is copied.
    """
    _exchange(parameters, values)
    try:
        yield
    finally:
        _exchange(parameters, values)


def _exchange(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> None:
    for one, other in zip(map(torch.atleast_1d, some), map(torch.atleast_1d, others), strict=True):
        for rows, other_rows in zip(one.split(_ROWS), other.split(_ROWS), strict=True):
            kept = rows.clone()
            rows.copy_(other_rows)
            other_rows.copy_(kept)
