"""Weights that stand in for others for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


@contextmanager
def in_place(parameters: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let ``parameters`` (their data, without gradient) be ``values`` for a while."""
    trained = [parameter.clone() for parameter in parameters]
    torch._foreach_copy_(parameters, values)
    try:
        yield
    finally:
        torch._foreach_copy_(parameters, trained)
