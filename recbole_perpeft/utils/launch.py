"""Starting the processes that train one model together, and where each stands among them.

They are told as ``torchrun`` tells those that it starts: by the environment.
"""

import math
import multiprocessing
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait

from recbole_perpeft.utils.cores import n_cores
from recbole_perpeft.utils.errors import PerPEFTError, ProcessError, SettingError

_GRACE = 10  # seconds for the others to end by themselves once one has
_ADDRESS_OF_INTERFACE = 0x8915  # Linux' SIOCGIFADDR
_PORT = 5678  # RecBole's, where the processes of several machines meet


@dataclass(frozen=True)
class Place:
    """One process among those that train a model together.

    Attributes
    ----------
    rank, count : int
        Which it is of how many.
    local_rank, local_count : int
        The same on its machine.
    address, port
        Where they meet: at the first one.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int
    address: str
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """The place as ``torchrun`` writes it."""
        values = (self.rank, self.count, self.local_rank, self.local_count, self.address, self.port)
        return dict(zip(_NAMES, map(str, values), strict=True))


_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def place() -> Place | None:
    """Where this process stands, by the environment; None: it is alone."""
    values = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", **os.environ}  # of launchers that start one on each machine
    if not all(name in values for name in _NAMES) or int(values["WORLD_SIZE"]) < 2:
        return None
    *numbers, address, port = (values[name] for name in _NAMES)
    return Place(*map(int, numbers), address, int(port))


def refuse_several(command: str) -> None:
    """Refuse to run in several processes.

    Raises
    ------
    SettingError
        Under ``torchrun`` or the like.
    """
    if (here := place()) is not None:
        raise SettingError(
            f"{command} runs in one process, and this is one of {here.count} (WORLD_SIZE). Start it without torchrun; "
            "run_recbole_perpeft.py trains in several."
        )


def places(nproc: int, world_size: int, ip: str | None, port: int | None, group_offset: int) -> list[Place]:
    """The processes to start on this machine, by RecBole's words for them; none, if this one is to do it all.

    Parameters
    ----------
    nproc
        Processes of this machine.
    world_size
        Those of all machines; -1: there is no other machine.
    ip, port
        Where they meet: at the first machine; None: ``localhost``, and a free port (5678 with several machines).
    group_offset
        Processes of the machines before this one.

    Raises
    ------
    SettingError
        If the words do not fit each other, or have no effect.
    """
    if nproc < 1:
        raise SettingError(f"nproc: {nproc} is not possible: it must be a whole number from 1 up.")
    count = nproc if world_size <= 0 else world_size
    if count == 1:
        given = {"ip": ip, "port": port, "group_offset": group_offset or None}
        for name, value in given.items():
            if value is not None:
                raise SettingError(f"{name}: {value} has no effect on one process. Set nproc or world_size to more.")
        return []
    if not 0 <= group_offset <= count - nproc:
        raise SettingError(
            f"group_offset: {group_offset} is not possible with nproc: {nproc} and world_size: {count}: the processes "
            f"of this machine would be {group_offset} to {group_offset + nproc - 1} of 0 to {count - 1}."
        )
    if here := place():
        raise SettingError(
            f"nproc: {nproc} is not possible in one of {here.count} processes that torchrun has started: leave out "
            "nproc, world_size, ip, port and group_offset."
        )
    if count > nproc and ip is None:
        raise SettingError(
            f"world_size: {count} with nproc: {nproc} is of several machines: set ip to the first one's."
        )
    address = ip or "localhost"
    at = port or (_PORT if count > nproc else _free_port())
    return [Place(group_offset + number, count, number, nproc, address, at) for number in range(nproc)]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def interface_towards(address: str) -> str | None:
    """The network interface by which this machine reaches another; None: it cannot be told."""
    try:
        import fcntl  # of Unix

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
            found.connect((address, 9))  # sends nothing
            own = socket.inet_aton(found.getsockname()[0])
            for _, name in socket.if_nameindex():
                request = struct.pack("256s", name.encode())
                try:
                    if fcntl.ioctl(found.fileno(), _ADDRESS_OF_INTERFACE, request)[20:24] == own:
                        return name
                except OSError:  # it has no address
                    continue
    except (ImportError, OSError):
        pass
    return None


def start(where: list[Place], function: str, arguments: Mapping[str, object]) -> object:
    """Call a function in a process for each place, and wait for them all.

    Parameters
    ----------
    function
        ``module:name``, so that this process need not import it.
    arguments
        By name; they can be pickled.

    Returns
    -------
    object
        What the first of those here returns.

    Raises
    ------
    PerPEFTError
        What one of them raises, the cause before what followed from it.
    ProcessError
        If one was killed, or failed in another way; the others are ended.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, n_cores() // len(where))))}
    try:
        for one in where:
            with _environment(one.environment | threads):
                workers.append(_Worker(context, one, function, arguments))
        _wait_for(workers)
    except KeyboardInterrupt as error:  # which all of them have had
        _wait_for(workers, time.monotonic() + _GRACE)
        raise _with_notes(error, workers) from None
    finally:
        _end(workers)
    if failed := [worker for worker in workers if worker.failure is not None]:
        error = min(failed, key=_followed_from_another).failure
        raise error if hasattr(error, "__notes__") else _with_notes(error, workers)
    return workers[0].result


def _with_notes(error: BaseException, workers: list["_Worker"]) -> BaseException:
    """``error`` with what some process has noted as it ended, such as how to go on."""
    for note in next((w.error.__notes__ for w in workers if hasattr(w.error, "__notes__")), []):
        error.add_note(note)
    return error


class _Worker:
    """A process that was started, and what it has sent."""

    def __init__(self, context, where: Place, function: str, arguments: Mapping[str, object]):
        self.place, self.result, self.error, self.ended = where, None, None, math.inf
        self.pipe, its_end = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(its_end, function, dict(arguments)))
        self.process.start()
        its_end.close()

    def read(self) -> None:
        """Take what it has sent, until it says no more."""
        try:
            while self.pipe.poll():
                self.result, self.error = self.pipe.recv()
        except EOFError:
            pass

    @property
    def failure(self) -> BaseException | None:
        """Why it did not do its work."""
        if self.error is not None or not self.process.exitcode:
            return self.error
        number, status = self.place.rank, self.process.exitcode
        how = f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended with status {status}"
        return ProcessError(f"Process {number} of {self.place.count} {how}.")


def _followed_from_another(worker: _Worker) -> tuple[int, float]:
    """The error that says most comes first: a mistake, the first that was killed, one that lost the others."""
    if isinstance(worker.error, ProcessError):
        return 2, worker.ended
    return 0 if worker.error is not None else 1, worker.ended


def _wait_for(workers: list[_Worker], deadline: float | None = None) -> None:
    """Until all have ended, or one has failed and the others had time to; at most until ``deadline``."""
    while running := [worker for worker in workers if worker.process.exitcode is None]:
        if deadline is not None and time.monotonic() > deadline:
            return
        wait([worker.process.sentinel for worker in running], timeout=0.5)
        for worker in workers:
            worker.read()
            if worker.process.exitcode is not None:
                worker.ended = min(worker.ended, time.monotonic())
            if deadline is None and worker.process.exitcode:
                deadline = time.monotonic() + _GRACE
    for worker in workers:
        worker.read()


def _end(workers: list[_Worker]) -> None:
    for how in ("terminate", "kill"):
        running = [worker.process for worker in workers if worker.process.exitcode is None]
        for process in running:
            getattr(process, how)()
        for process in running:
            process.join(_GRACE / 3)
    for worker in workers:
        worker.read()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(pipe: Connection, function: str, arguments: dict) -> None:
    """What a process does: call ``function`` and send what it gives or raises."""
    module, name = function.split(":")
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    try:
        result = getattr(import_module(module), name)(**arguments)
    except (PerPEFTError, KeyboardInterrupt) as error:
        pipe.send((None, error))
        raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from None
    pipe.send((result, None))


def _end_with_the_starter() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
