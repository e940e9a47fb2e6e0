"""Who uses a store: processes that run, which hold a lock in it until they end, and data sets by name."""

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from recbole_perpeft.utils.files import replacing

_LOCKS, _NAMES = "in-use", "data_sets.txt"
_held: dict[Path, FileLock] = {}


def hold(store: Path) -> None:
    """Let a store count as used until this process ends; whoever calls holds the store's own lock.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    known = _held.get(store)
    if known and Path(known.lock_file).exists():
        return
    in_use(store)  # which clears what processes that have ended left
    (store / _LOCKS).mkdir(exist_ok=True)
    lock = FileLock(store / _LOCKS / f"{uuid4().hex}.lock", thread_local=False)
    lock.acquire()
    _held[store] = lock


def in_use(store: Path) -> bool:
    """Whether a process that runs holds a store; whoever calls holds the store's own lock."""
    used = False
    for file in (store / _LOCKS).glob("*.lock"):
        try:
            with FileLock(file, timeout=0):
                pass
        except Timeout:
            used = True
        else:
            file.unlink(missing_ok=True)
    return used


def note_use(store: Path, data_set: str) -> None:
    """Note that a store was used just now, for the items of ``data_set``."""
    file = store / _NAMES
    with suppress(OSError):  # of a cache that is read only
        if data_set in data_sets(store):
            os.utime(file)
            return
        with replacing(file) as partial:
            partial.write_text("\n".join([*data_sets(store), data_set]), encoding="utf-8")


def data_sets(store: Path) -> list[str]:
    """Names of the data sets that a store was used for."""
    try:
        return (store / _NAMES).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def last_use(store: Path) -> float:
    """When a store was last used, in seconds since 1970; when it was last written, if no use is noted."""
    file = store / _NAMES
    return (file if file.is_file() else store).stat().st_mtime
