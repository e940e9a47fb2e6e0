"""Items that are encoded once for several training steps."""

from collections.abc import Callable

import torch
from torch import nn

from recbole_perpeft.content.device_rows import to_device


class EncodingWindow:
    """Features of some items, cut off from the encoder's graph so that gradients gather at them.

    Parameters
    ----------
    encode
        Gives the features ``[n, content_size]`` of ids ``[n]``, with the encoder's graph.
    items
        Sorted ids ``[n]``, on the CPU.
    n_items
        How many ids there are, with that of padding.
    number
        How many further items are encoded, drawn from the rest of the catalogue. In the gradient that goes through the
        encoder they stand for all of the rest (each with the weight of Horvitz and Thompson, 1952): its expectation is
        that of encoding every item. Without them a step over all items teaches the encoder of its targets and of what
        competes with them in the batch, and nothing of what holds most others down.

    Attributes
    ----------
    items : torch.LongTensor
        What was encoded, sorted, on the CPU.
    """

    def __init__(
        self, encode: Callable[[torch.Tensor], torch.Tensor], items: torch.Tensor, n_items: int, number: int = 0
    ):
        rest = torch.ones(n_items, dtype=torch.bool)
        rest[0], rest[items] = False, False
        drawn = rest.nonzero().squeeze(1)
        self._stand_for = max(len(drawn) / max(number, 1), 1)
        drawn = drawn[torch.randperm(len(drawn))[:number]] if number else drawn[:0]
        self.items = torch.cat([items, drawn]).sort().values
        self._encoded = encode(self.items)
        self._leaf = self._encoded.detach().requires_grad_(self._encoded.requires_grad)
        self._drawn = to_device(rest[self.items].nonzero().squeeze(1), self._leaf.device)

    def features(self, items: torch.Tensor) -> torch.Tensor:
        """Features of ``items [m]``, which are among the window's, ``[m, content_size]``."""
        if len(items) == len(self.items):
            return self._leaf
        return self._leaf.index_select(0, to_device(torch.searchsorted(self.items, items), self._leaf.device))

    def drift(self, moved: torch.Tensor) -> torch.Tensor:
        """How items outside the window have moved on the mean, by how those in it have, ``[n, d] -> [d]``."""
        if len(self._drawn):  # these are like those outside, and carry their gradient
            moved = moved.index_select(0, self._drawn).detach()
        return moved.mean(dim=0)

    def backward(self, parameters: list[nn.Parameter]) -> None:
        """Add the gathered gradient, carried through the encoder, to that of ``parameters``.

        It is scaled to one on its way, for fp16 would lose the small gradients of normalised features.
        """
        gradient = self._leaf.grad
        if gradient is not None:
            gradient[self._drawn] *= self._stand_for
            scale = gradient.abs().amax().clamp(min=torch.finfo(gradient.dtype).tiny)
            gradients = torch.autograd.grad(self._encoded, parameters, gradient / scale, allow_unused=True)
            reached = [pair for pair in zip(parameters, gradients, strict=True) if pair[1] is not None]
            scaled = torch._foreach_mul([own for _, own in reached], scale)
            for (parameter, _), own in zip(reached, scaled, strict=True):
                parameter.grad = own if parameter.grad is None else parameter.grad + own
