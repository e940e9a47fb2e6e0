"""What a backbone's forward makes of each sequence on the way to its scores."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def keeping_outputs(model: nn.Module, outputs: list[torch.Tensor]) -> Iterator[None]:
    """Collect what ``forward`` of a sequential model gives; where that is a row for each position, the one it takes.

    Parameters
    ----------
    model
        A RecBole model with ``gather_indexes``.
    outputs
        Where each call's output comes, ``[n, ...]``.
    """
    forward, gather = model.forward, model.gather_indexes

    def kept(*args, **kwargs) -> torch.Tensor:
        outputs.append(forward(*args, **kwargs))
        return outputs[-1]

    def gathered(output: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        of_sequences = gather(output, index)
        if outputs and output is outputs[-1]:
            outputs[-1] = of_sequences
        return of_sequences

    model.forward, model.gather_indexes = kept, gathered
    try:
        yield
    finally:
        del model.forward, model.gather_indexes
