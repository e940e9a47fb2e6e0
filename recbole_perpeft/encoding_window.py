"""Items that are encoded once for several training steps."""

import torch
from torch import nn

from recbole_perpeft.content.device_rows import to_device


class EncodingWindow:
    """Features of some items, cut off from the encoder's graph so that gradients gather at them.

    Parameters
    ----------
    items
        Sorted ids ``[n]``, on the CPU.
    features
        ``[n, content_size]``, with the encoder's graph.

    Attributes
    ----------
    items : torch.LongTensor
        As given.
    """

    def __init__(self, items: torch.Tensor, features: torch.Tensor):
        self.items, self._encoded = items, features
        self._leaf = features.detach().requires_grad_(features.requires_grad)

    def features(self, items: torch.Tensor) -> torch.Tensor:
        """Features of ``items [m]``, which are among the window's, ``[m, content_size]``."""
        if len(items) == len(self.items):
            return self._leaf
        return self._leaf.index_select(0, to_device(torch.searchsorted(self.items, items), self._leaf.device))

    def backward(self, parameters: list[nn.Parameter]) -> None:
        """Add the gathered gradient, carried through the encoder, to that of ``parameters``.

        It is scaled to one on its way, for fp16 would lose the small gradients of normalised features.
        """
        gradient = self._leaf.grad
        if gradient is not None:
            scale = gradient.abs().amax().clamp(min=torch.finfo(gradient.dtype).tiny)
            gradients = torch.autograd.grad(self._encoded, parameters, gradient / scale, allow_unused=True)
            reached = [pair for pair in zip(parameters, gradients, strict=True) if pair[1] is not None]
            scaled = torch._foreach_mul([own for _, own in reached], scale)
            for (parameter, _), own in zip(reached, scaled, strict=True):
                parameter.grad = own if parameter.grad is None else parameter.grad + own
