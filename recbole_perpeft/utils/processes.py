"""What processes that train one model together tell each other; with one process all of it is free.

It is a process group of :mod:`torch.distributed`, gloo between CPUs and nccl between GPUs, which
:mod:`~recbole_perpeft.utils.joining` makes. All processes make the same calls in the same order, but for what they do
:func:`alone`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist

from recbole_perpeft.utils.errors import SettingError
from recbole_perpeft.utils.launch import Place

_WORTH_A_CALL = 2**24  # bytes of a table that is summed by itself, for in a buffer it would be there twice
_PREPARED = timedelta(days=2)  # content may be prepared on one machine while others wait


class State:
    """Who this process is; :mod:`~recbole_perpeft.utils.joining` sets it."""

    place: Place | None = None
    store: dist.Store | None = None
    device = torch.device("cpu")
    alone = False


state = State()


# -- who is there ---------------------------------------------------------------------------------------------------


def here() -> Place | None:
    """Where this process stands among those that it has joined; None: it is alone."""
    return state.place


def rank() -> int:
    """The number of this process, from 0."""
    return state.place.rank if state.place else 0


def is_first() -> bool:
    """Whether this is the process that logs and writes."""
    return rank() == 0


def count() -> int:
    """How many processes work together now."""
    return 1 if state.place is None or state.alone else state.place.count


@contextmanager
def alone() -> Iterator[None]:
    """For a while, work as if there were no other process: nothing is split, nobody is waited for."""
    before, state.alone = state.alone, True
    try:
        yield
    finally:
        state.alone = before


# -- who does what --------------------------------------------------------------------------------------------------


class Share(NamedTuple):
    """The part of some rows that is this process's own.

    Attributes
    ----------
    rows : slice
        Of the rows: every so-many-th, so that what grows or shrinks along them does so for all processes; all, where
        there are fewer than processes.
    weight : float
        What counts of a sum over its rows: 1, or a process's part, where all have all rows.
    """

    rows: slice
    weight: float


def share(n: int) -> Share | None:
    """Which of ``n`` rows are this process's; None: there is no other process."""
    number = count()
    if number == 1:
        return None
    if n < number:
        return Share(slice(0, n), 1 / number)
    return Share(slice(rank(), n, number), 1.0)


def is_own(number: int) -> bool:
    """Whether, of things that are done one by one, this process does the one with this number."""
    return number % count() == rank() % count()


def gather_rows(own: torch.Tensor, n: int) -> torch.Tensor:
    """All ``n`` rows, of which each process has its :func:`share`, ``[n, ...]``; without gradient."""
    number = count()
    if number == 1 or n < number:
        return own
    longest = -(-n // number)
    padded = own.contiguous() if len(own) == longest else torch.cat([own, own[:1]])
    parts = [torch.empty_like(padded) for _ in range(number)]
    dist.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten(0, 1)[:n]


def gather_trained_rows(own: torch.Tensor, n: int) -> torch.Tensor:
    """As :func:`gather_rows`, with gradient: to each process's rows comes the sum of what all processes have there."""
    return _GatheredRows.apply(own, n)


class _GatheredRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own: torch.Tensor, n: int) -> torch.Tensor:
        ctx.share = share(n)
        return gather_rows(own, n)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return total(gradient)[ctx.share.rows] * ctx.share.weight, None


# -- sums -----------------------------------------------------------------------------------------------------------


def total(own: torch.Tensor) -> torch.Tensor:
    """The sum of every process's tensor."""
    if count() == 1:
        return own
    summed = own.to(state.device, copy=True)
    dist.all_reduce(summed)
    return summed.to(own.device)


def sum_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Let the gradients be the sums of every process's; those that are None are so everywhere, and stay."""
    if count() == 1:
        return
    by_type: dict[torch.dtype, list[torch.Tensor]] = {}
    for gradient in (parameter.grad for parameter in parameters if parameter.grad is not None):
        if gradient.nbytes > _WORTH_A_CALL and gradient.is_contiguous():
            dist.all_reduce(gradient)
        else:
            by_type.setdefault(gradient.dtype, []).append(gradient)
    for gradients in by_type.values():
        _in_one_buffer(gradients, dist.all_reduce)


def _in_one_buffer(tensors: Sequence[torch.Tensor], do) -> None:
    """Let ``do`` change all ``tensors`` of one type as one."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    do(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(own) for part, own in zip(parts, tensors, strict=True)])


# -- the same everywhere --------------------------------------------------------------------------------------------


def take_from_first(tensors: Sequence[torch.Tensor]) -> None:
    """Let the tensors hold what the first process's do."""
    if count() == 1:
        return
    by_type: dict[tuple, list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            by_type.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for (_, device), of_type in by_type.items():
        with torch.no_grad():
            _in_one_buffer(of_type, lambda flat, device=device: flat.copy_(_of_first(flat).to(device)))


def _of_first(flat: torch.Tensor) -> torch.Tensor:
    sent = flat.to(state.device)
    dist.broadcast(sent, 0)
    return sent


def of_first(value: object) -> object:
    """The first process's ``value``."""
    if count() == 1:
        return value
    sent = [value]
    dist.broadcast_object_list(sent, 0)
    return sent[0]


def of_all(value: object) -> list:
    """Every process's ``value``, in their order."""
    if count() == 1:
        return [value]
    values = [None] * count()
    dist.all_gather_object(values, value)
    return values


def meet() -> None:
    """Wait until all have come so far, however long it takes them to prepare what is prepared once."""
    if count() == 1:
        return
    store, number = state.store, count()
    if store.add("met", 1) == number:
        store.set("all met", "")
    store.wait(["all met"], _PREPARED)


def refuse_differences(values: Mapping[str, object]) -> None:
    """Refuse to work together with processes that have other settings or data.

    Parameters
    ----------
    values
        What has to be the same, by name.

    Raises
    ------
    SettingError
        Names what differs, with both values.
    """
    first = of_first(dict(values))
    own = [name for name in {*first, *values} if first.get(name) != values.get(name)]
    for other, names in enumerate(of_all({name: values.get(name) for name in own})):
        if names:
            differences = "; ".join(f"{name}: {first.get(name)} and {value}" for name, value in sorted(names.items()))
            raise SettingError(
                f"Processes 0 and {other} do not fit together: {differences}. Give all of them the same."
            )
