"""The folder of results, which several processes may fill at once: who does which run of it, and which have failed."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from recbole_perpeft.experiments.run import read_result
from recbole_perpeft.utils.errors import SettingError


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """The folder, made; others may fill it at the same time.

    Raises
    ------
    SettingError
        If it cannot be made, or lies on a file system without locks.
    DataError
        If it has results of another version.
    """
    try:
        for name in ("runs", "logs", "claims"):
            (out / name).mkdir(parents=True, exist_ok=True)
        with alone(out):
            pass
    except (OSError, NotImplementedError) as error:
        raise SettingError(f"--out: {out} cannot be used as a folder ({error}). Choose another.") from error
    for file in (out / "runs").glob("*.json"):
        read_result(file)
    yield out


def alone(folder: Path) -> FileLock:
    """A lock for moments in which no other process may take a run of the folder, or write its tables."""
    return FileLock(folder / ".lock")


class Claim:
    """The right to do one run of a folder, of one process at a time.

    It is a lock on a file, which the system takes back when the process ends, in whichever way. So what a dead process
    had begun is free at once; on a network file system, when its server notices that the machine is gone.

    Parameters
    ----------
    folder
        From :func:`output_folder`.
    name
        Of the run's files.
    """

    def __init__(self, folder: Path, name: str):
        self._lock = FileLock(folder / "claims" / f"{name}.lock")  # stays: a name that is removed could be locked twice
        # beside the result: whoever makes a file in a folder of NFS is shown what others have made there meanwhile
        self._holder, self._failure = folder / "runs" / f"{name}.holder", folder / "runs" / f"{name}.failed"

    def take(self) -> bool:
        """Take it, if nobody has it; for whoever is :func:`alone`."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        self._holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        return True

    def is_free(self) -> bool:
        """Whether nobody has it; for whoever is :func:`alone`."""
        try:
            with self._lock.acquire(timeout=0):
                return True
        except Timeout:
            return False

    def give_back(self) -> None:
        """Let others have it."""
        self._holder.unlink(missing_ok=True)
        self._lock.release()

    @property
    def holder(self) -> str:
        """Process and machine that have it, as they have noted it."""
        return _text(self._holder) or "another process"

    @property
    def failure(self) -> str | None:
        """What went wrong when it was last done, with a mark that no other failure has; None if it did not fail."""
        return _text(self._failure)

    def note_failure(self, error: str | None) -> None:
        """Tell others who wait for the run what went wrong; None: nothing, in the end."""
        if error is None:
            self._failure.unlink(missing_ok=True)
        else:
            self._failure.write_text(f"{error}\n{uuid4()}")


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except FileNotFoundError:
        return None
