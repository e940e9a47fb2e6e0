"""Items that are encoded once for several training steps, in the memory there is."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from recbole_perpeft.model.stale_features import extrapolate
from recbole_perpeft.utils.device_rows import to_device
from recbole_perpeft.utils.processes import Share, gather_rows, gather_trained_rows, total


def encode_in_portions(
    encode: Callable[[torch.Tensor], torch.Tensor], items: torch.Tensor, size: int | None, anchor: torch.Tensor
) -> torch.Tensor:
    """Encode ``items`` so that what the backward pass needs is in memory for ``size`` of them at a time.

    Of more items it is kept for the last ``size``, which the backward pass comes to first. The others are encoded
    again, a portion at a time, when it comes to them, with the dropout that they had. Gradients are those of encoding
    each portion by itself (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016; Gao et al., Scaling Deep
    Contrastive Learning Batch Size under Memory Limited Setup, 2021).

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
    again = [checkpoint(on_device, part, anchor, use_reentrant=False) for part in items[:-size].split(size)]
    return torch.cat([*again, encode(items[-size:])])


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
        self._own = features.detach().requires_grad_(features.requires_grad)
        self._all = self._own if share is None else None  # of several processes, from when they are first asked for

    def features(self, items: torch.Tensor) -> torch.Tensor:
        """Features of ``items [m]``, which are among the window's, ``[m, content_size]``."""
        if self._all is None:
            gathered = gather_rows(self._own.detach(), len(self.items))
            self._all = gathered.requires_grad_(self._own.requires_grad)
        if len(items) == len(self.items):
            return self._all
        return self._all.index_select(0, to_device(torch.searchsorted(self.items, items), self._all.device))

    def rows(self, items: torch.Tensor, make: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """What ``make`` makes of the features of ``items [m]``, row by row, ``[m, ...]``.

        Where these are all of the window's, each of several processes makes rows of its own items, and the rows travel,
        which are narrower than the features.
        """
        if self._share is None or len(items) < len(self.items):
            return make(self.features(items))
        return gather_trained_rows(make(self._own).float(), len(items))

    def backward(self, parameters: list[nn.Parameter]) -> None:
        """Add the gathered gradient, carried through the encoder, to that of ``parameters``.

        It is scaled to one on its way, for fp16 would lose the small gradients of normalised features.
        """
        gradient = self._gradient()
        if gradient is not None:
            scale = gradient.abs().amax().clamp(min=torch.finfo(gradient.dtype).tiny)
            gradients = torch.autograd.grad(self._encoded, parameters, gradient / scale, allow_unused=True)
            reached = [pair for pair in zip(parameters, gradients, strict=True) if pair[1] is not None]
            scaled = torch._foreach_mul([own for _, own in reached], scale)
            for (parameter, _), own in zip(reached, scaled, strict=True):
                parameter.grad = own if parameter.grad is None else parameter.grad + own

    def _gradient(self) -> torch.Tensor | None:
        """At what this process has encoded, ``[own, content_size]``."""
        gradient = self._own.grad
        if self._share is not None and self._all is not None and self._all.grad is not None:
            of_all = _own_part(total(self._all.grad), self._share)  # each has that of its own users
            gradient = of_all if gradient is None else gradient + of_all
        return gradient


class CarriedWindow(EncodingWindow):
    """The same where some of the items are encoded: the others' features are carried on from those last computed.

    Parameters
    ----------
    items
        As of :class:`EncodingWindow`.
    features, share
        As there, of ``encoded``.
    encoded
        Sorted ids ``[k]`` among the items, on the CPU; of several processes, the same in all.
    last
        Features of the whole catalogue as last computed, ``[n_items, content_size]``.

    Attributes
    ----------
    items : torch.LongTensor
        As given.
    of_all_items : torch.Tensor
        Features of the whole catalogue, carried on, ``[n_items, content_size]``; without gradient.
    """

    def __init__(
        self,
        items: torch.Tensor,
        features: torch.Tensor,
        share: Share | None,
        encoded: torch.Tensor,
        last: torch.Tensor,
    ):
        super().__init__(items, features, share)
        self._known = gather_rows(self._own.detach(), len(encoded)).requires_grad_()  # [k, content_size]
        carried = extrapolate(last, to_device(encoded, last.device), self._known)
        self.of_all_items = carried.detach()
        self._carried = carried.index_select(0, to_device(items, last.device))  # [n, content_size]
        self._all = self._carried.detach().requires_grad_()

    def rows(self, items: torch.Tensor, make: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return make(self.features(items))

    def _gradient(self) -> torch.Tensor | None:
        if self._all.grad is None:
            return None
        (of_known,) = torch.autograd.grad(self._carried, self._known, total(self._all.grad))
        return of_known if self._share is None else _own_part(of_known, self._share)


def _own_part(rows: torch.Tensor, share: Share) -> torch.Tensor:
    """Of all processes' rows those of this one, as far as they count here."""
    return rows[share.rows] * share.weight
