"""How processes that train one model together meet, and how they end when one of them is lost."""

import hashlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from recbole_perpeft.utils.errors import PerPEFTError, ProcessError, first_line
from recbole_perpeft.utils.launch import Place, interface_towards
from recbole_perpeft.utils.processes import state

_ANSWER = timedelta(minutes=10)  # between two who are both at work
_OF_PROCESSES = ("gloo", "nccl", "tcpstore", "connection", "socket", "process group")  # in what torch says of them


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
        state.place, state.store, state.alone = place, None, False
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
        state.place = None
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


def connect(device: torch.device) -> None:
    """Meet the other processes; nothing to do for one that is alone.

    Parameters
    ----------
    device
        Where the tensors of this one are.
    """
    place = state.place
    if place is None:
        return
    kept_elsewhere = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself
    is_master = place.rank == 0 and not kept_elsewhere
    store = dist.TCPStore(place.address, place.port, place.count, is_master, timeout=_ANSWER)
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    state.store, state.device = store, device
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if place.count > place.local_count and (name := interface_towards(place.address)):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)  # gloo goes by the host's name, which may mean localhost
    group = dist.PrefixStore("group", store)
    dist.init_process_group(backend, store=group, rank=place.rank, world_size=place.count, timeout=_ANSWER)


def is_said_here(error: BaseException, place: Place) -> bool:
    """Whether this process, at ``place``, tells the user of an error, which others may have had as well."""
    if state.store is None:  # of the settings, before anybody was met
        return place.local_rank == 0
    try:
        return state.store.add(f"error {hashlib.sha256(str(error).encode()).hexdigest()}", 1) == 1
    except RuntimeError:  # who keeps the store has ended
        return True


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
    return f"Process {state.place.rank} of {state.place.count}" if state.place else "This process"
