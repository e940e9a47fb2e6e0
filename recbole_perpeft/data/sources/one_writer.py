"""One process at a time writes a data set's folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from recbole_perpeft.utils.errors import DataError
from recbole_perpeft.utils.files import remove_left_behind

_LOCK, _HOLDER = ".lock", ".prepared_by"  # that of the lock cannot be read everywhere while it is held


@contextmanager
def only_writer(folder: Path) -> Iterator[Path]:
    """Give ``folder`` to this process alone, without the parts of files that killed processes have left in it.

    Raises
    ------
    DataError
        If another process writes there, which the message names, or the folder cannot be written.
    """
    lock, holder = FileLock(folder / _LOCK), folder / _HOLDER
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"{folder} is being written by {_process(holder)}. Wait until it is done, or stop it; or write another "
            "data set, with --name."
        ) from error
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}.") from error
    try:
        with suppress(OSError):  # of a full disk the files that follow tell
            holder.write_text(str(os.getpid()))
        remove_left_behind(folder)
        yield folder
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def _process(holder: Path) -> str:
    with suppress(OSError, ValueError):
        return f"the process {int(holder.read_text())}"
    return "another process"
