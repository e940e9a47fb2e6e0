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
    """

    def __init__(self, items: torch.Tensor, features: torch.Tensor):
        self._items, self._encoded = items, features
        self._leaf = features.detach().requires_grad_(features.requires_grad)

    def features(self, items: torch.Tensor) -> torch.Tensor:
        """Features of ``items [m]``, which are among the window's, ``[m, content_size]``."""
        if len(items) == len(self._items):
            return self._leaf
        return self._leaf.index_select(0, to_device(torch.searchsorted(self._items, items), self._leaf.device))

    def backward(self, parameters: list[nn.Parameter]) -> None:
        """Carry the gathered gradient through the encoder to ``parameters``.

        It is scaled to one on its way, for fp16 would lose the small gradients of normalised features.
        """
        gradient = self._leaf.grad
        if gradient is not None:
            scale = gradient.abs().amax().clamp(min=torch.finfo(gradient.dtype).tiny)
            self._encoded.backward(gradient / scale)
            torch._foreach_mul_([parameter.grad for parameter in parameters if parameter.grad is not None], scale)
