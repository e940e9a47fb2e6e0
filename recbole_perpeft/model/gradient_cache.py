"""Items that are encoded once for several training steps, in the memory there is."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from recbole_perpeft.utils.device_rows import to_device
from recbole_perpeft.utils.processes import Share, gather_rows, total


def encode_in_portions(
    encode: Callable[[torch.Tensor], torch.Tensor], items: torch.Tensor, size: int | None, anchor: torch.Tensor
) -> torch.Tensor:
    """Encode ``items`` so that what the backward pass needs is in memory for ``size`` of them at a time.

    Of more items none of it is kept: each portion is encoded again when the backward pass comes to it, with the dropout
    that it had. Gradients are those of encoding each portion by itself (Chen et al., Training Deep Nets with Sublinear
    Memory Cost, 2016; Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, 2021).

    Parameters
    ----------
    encode
        Items ``[m]`` to their features ``[m, content_size]``.
    items
        Ids ``[n]``, on the CPU.
    size
        None keeps everything.
    anchor
        Any tensor on the encoder's device that does not change before the backward pass.

    Returns
    -------
    torch.Tensor
        ``[n, content_size]``.
    """
    if size is None or len(items) <= size:
        return encode(items)

    def on_device(part: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return encode(part)

    # checkpoint() restores the random state of the devices of its arguments, of which the items would say the CPU
    return torch.cat([checkpoint(on_device, part, anchor, use_reentrant=False) for part in items.split(size)])


class EncodingWindow:
    """Features of some items, cut off from the encoder's graph so that gradients gather at them.

    Parameters
    ----------
    items
        Sorted ids ``[n]``, on the CPU.
    features
        ``[n, content_size]``, with the encoder's graph; of several processes, those of ``share``.
    share
        Which of the items are encoded by this process; None: all.

    Attributes
    ----------
    items : torch.LongTensor
        As given.
    """

    def __init__(self, items: torch.Tensor, features: torch.Tensor, share: Share | None = None):
        self.items, self._encoded, self._share = items, features, share
        leaf = features.detach() if share is None else gather_rows(features.detach(), len(items))
        self._leaf = leaf.requires_grad_(features.requires_grad)

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
            if self._share is not None:  # each process has that of its own rows of the loss
                gradient = total(gradient)[self._share.rows] * self._share.weight
            scale = gradient.abs().amax().clamp(min=torch.finfo(gradient.dtype).tiny)
            gradients = torch.autograd.grad(self._encoded, parameters, gradient / scale, allow_unused=True)
            reached = [pair for pair in zip(parameters, gradients, strict=True) if pair[1] is not None]
            scaled = torch._foreach_mul([own for _, own in reached], scale)
            for (parameter, _), own in zip(reached, scaled, strict=True):
                parameter.grad = own if parameter.grad is None else parameter.grad + own
