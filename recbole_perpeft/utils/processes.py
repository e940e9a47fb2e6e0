"""What processes that train one model together tell each other; with one process all of it is free.

It is a process group of :mod:`torch.distributed`, gloo between CPUs and nccl between GPUs. All processes make the same
calls in the same order, but for what they do :func:`alone`.
"""

import hashlib
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist

from recbole_perpeft.utils.errors import PerPEFTError, ProcessError, SettingError, first_line
from recbole_perpeft.utils.launch import Place, interface_towards

_ANSWER = timedelta(minutes=10)  # between two who are both at work
_WORTH_A_CALL = 2**24  # bytes of a table that is summed by itself, for in a buffer it would be there twice
_PREPARED = timedelta(days=2)  # content may be prepared on one machine while others wait
_OF_PROCESSES = ("gloo", "nccl", "tcpstore", "connection", "socket", "process group")  # in what torch says of them


class _State:
    """Who this process is."""

    place: Place | None = None
    store: dist.Store | None = None
    device = torch.device("cpu")
    alone = False


_state = _State()


# -- who is there ---------------------------------------------------------------------------------------------------


@contextmanager
def joined(place: Place | None) -> Iterator[None]:
    """Be one of several processes for a while; they work together from :func:`connect` on.

    Parameters
    ----------
    place
        Of this process; None: it is alone.

    Raises
    ------
    ProcessError
        If one of the others does not come, ends or is no longer heard of, or this one is told to end.
    """
    if place is None:
        yield
        return
    handler = _ending_with_a_word()
    try:
        _state.place, _state.store, _state.alone = place, None, False
        yield
        if dist.is_initialized():
            dist.destroy_process_group()
    except BaseException as error:
        if handler is not None:  # this process ends, and has a word to say before
            handler = signal.SIG_IGN
            signal.signal(signal.SIGTERM, handler)
        if isinstance(error, PerPEFTError) or not (isinstance(error, RuntimeError) and _is_of_processes(error)):
            raise
        raise _lost(error) from error
    finally:
        _state.place = None
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


def connect(device: torch.device) -> None:
    """Meet the other processes; nothing to do for one that is alone.

    Parameters
    ----------
    device
        Where the tensors of this one are.
    """
    place = _state.place
    if place is None:
        return
    kept_elsewhere = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself
    is_master = place.rank == 0 and not kept_elsewhere
    store = dist.TCPStore(place.address, place.port, place.count, is_master, timeout=_ANSWER)
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    _state.store, _state.device = store, device
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if place.count > place.local_count and (name := interface_towards(place.address)):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)  # gloo goes by the host's name, which may mean localhost
    group = dist.PrefixStore("group", store)
    dist.init_process_group(backend, store=group, rank=place.rank, world_size=place.count, timeout=_ANSWER)


def _ending_with_a_word() -> object:
    """Let SIGTERM, which launchers send to the others when one has ended, raise an error; gives the former handler."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def end(*_):
        raise ProcessError(
            f"{_named()} was told to end (SIGTERM), as launchers do with the others when one process has ended."
        )

    return signal.signal(signal.SIGTERM, end)


def _is_of_processes(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _OF_PROCESSES)


def _lost(error: BaseException) -> ProcessError:
    said = re.sub(r"^\[[^]]*\] ", "", first_line(error)).partition(". ")[0]  # without a line of torch's sources
    lost = ProcessError(
        f"{_named()} no longer hears from the others: one of them has ended or cannot be reached ({said})."
    )
    for note in getattr(error, "__notes__", []):
        lost.add_note(note)
    return lost


def _named() -> str:
    return f"Process {_state.place.rank} of {_state.place.count}" if _state.place else "This process"


def here() -> Place | None:
    """Where this process stands among those that it has joined; None: it is alone."""
    return _state.place


def rank() -> int:
    """The number of this process, from 0."""
    return _state.place.rank if _state.place else 0


def is_first() -> bool:
    """Whether this is the process that logs and writes."""
    return rank() == 0


def count() -> int:
    """How many processes work together now."""
    return 1 if _state.place is None or _state.alone else _state.place.count


@contextmanager
def alone() -> Iterator[None]:
    """For a while, work as if there were no other process: nothing is split, nobody is waited for."""
    before, _state.alone = _state.alone, True
    try:
        yield
    finally:
        _state.alone = before


def is_said_here(error: BaseException, place: Place) -> bool:
    """Whether this process, at ``place``, tells the user of an error, which others may have had as well."""
    if _state.store is None:  # of the settings, before anybody was met
        return place.local_rank == 0
    try:
        return _state.store.add(f"error {hashlib.sha256(str(error).encode()).hexdigest()}", 1) == 1
    except RuntimeError:  # who keeps the store has ended
        return True


# -- who does what --------------------------------------------------------------------------------------------------


class Share(NamedTuple):
    """The part of some rows that is this process's own.

    Attributes
    ----------
    rows : slice
        Of the rows; all, where there are fewer than processes.
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
    return Share(slice(n * rank() // number, n * (rank() + 1) // number), 1.0)


def is_own(number: int) -> bool:
    """Whether, of things that are done one by one, this process does the one with this number."""
    return number % count() == rank() % count()


def gather_rows(own: torch.Tensor, n: int) -> torch.Tensor:
    """All ``n`` rows, of which each process has its :func:`share`, ``[n, ...]``; without gradient."""
    number = count()
    if number == 1 or n < number:
        return own
    sizes = [n * (other + 1) // number - n * other // number for other in range(number)]
    padded = own.new_zeros(max(sizes), *own.shape[1:])
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in range(number)]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


# -- sums -----------------------------------------------------------------------------------------------------------


def total(own: torch.Tensor) -> torch.Tensor:
    """The sum of every process's tensor."""
    if count() == 1:
        return own
    summed = own.to(_state.device, copy=True)
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
    sent = flat.to(_state.device)
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
    store, number = _state.store, count()
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
