"""Folders of arrays that are made once and opened ever after.

A store is made in ``<name>.partial`` under a lock and renamed when it is whole, so a folder without that
suffix is whole. A second process that wants the same store waits for the first. A killed run leaves its
partial folder, from which the next run goes on. Whoever opens a store holds it until the process ends
(:mod:`~recbole_perpeft.content.uses`).
"""

import errno
import hashlib
import json
import logging
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy

from recbole_perpeft.content.uses import hold
from recbole_perpeft.utils.errors import ContentError

FORMAT_VERSION = 1
_KIND = "kind.txt"  # no .npy: a hash of the content is one of these
_WRITTEN_AT_ONCE = 2**23  # bytes, for each writing waits for the disk
_AT_ONCE = 1  # second: longer than it takes to open a store
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def digest(content: object) -> str:
    """Return a name that changes with `content` (anything that JSON can write) and the stores' format."""
    text = json.dumps([FORMAT_VERSION, content], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def ensure_store(folder: Path, make: Callable[[Path], None]) -> bool:
    """Make a store unless it is there.

    Parameters
    ----------
    folder
        The store's folder; its parent is created.
    make
        Called with a folder to write the arrays into. What an interrupted run has left there is still in it.

    Returns
    -------
    bool
        Whether the store was there already.

    Raises
    ------
    ContentError
        If the folder cannot be written, or the disk is full; then nothing is left behind.
    """
    there = folder.is_dir()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            there = folder.is_dir()
            if not there:
                _make(folder, make)
            hold(folder)
    except OSError as error:
        if not folder.is_dir():  # else nobody can note the use of it, nor remove it: it is read only, or the disk full
            raise ContentError(
                f"The cache of item content {folder.parent} cannot be written ({error}): set `content_cache` to "
                "a folder that can."
            ) from error
    return there


def note_kind(folder: Path, kind: str) -> None:
    """Note in a store what is the same for all whose rows it could share."""
    (folder / _KIND).write_text(kind)


def stores_beside(new: Path, kind: str) -> Iterator[Path]:
    """Whole stores beside a ``new`` one, of the same kind; each stays as long as this process runs."""
    for store in sorted(new.parent.glob(f"{new.name.partition('-')[0]}-*")):
        if not store.suffix and _kind_of(store) == kind and _hold(store):
            yield store


def _kind_of(store: Path) -> str | None:
    with suppress(OSError):
        return (store / _KIND).read_text()
    return None


def _hold(store: Path) -> bool:
    """Hold a store, or read one that nobody can remove; tells whether it is there."""
    with suppress(OSError), _locked(store):
        if store.is_dir():
            hold(store)
    return store.is_dir()


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(exist_ok=True)
    try:
        make(partial)
    except (ContentError, OSError):
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        lock.acquire(timeout=_AT_ONCE)
    except Timeout:
        logging.getLogger().info(f"Waiting for another process that prepares {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class ArrayWriter:
    """Writes an ``.npy`` file row by row, going on where an earlier run stopped.

    Rows are written as a file, not through a memory map (`numpy.lib.format.open_memmap`): a full disk is then an error
    and not the end of the process by a bus error, and the file's length tells how many rows are written.

    Parameters
    ----------
    path
        The file.
    dtype
        Type of the values.
    shape
        Shape of the whole array; rows are its first dimension.

    Attributes
    ----------
    n_rows : int
        How many rows there are: on disk, but for the last few of which the next ones are waited for.

    Raises
    ------
    ContentError
        If the disk has no room for the rest of the array, beforehand or while writing.
    """

    def __init__(self, path: Path, dtype: np.dtype | type, shape: tuple[int, ...]):
        self.path = path
        self._total_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._row_bytes = self._total_bytes // shape[0]
        # Unbuffered: what a full disk has refused is not written once more on closing.
        mode = "r+b" if path.exists() else "w+b"
        self._file = open(path, mode, buffering=0)  # noqa: SIM115 - closed in __exit__
        header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)
        start = self._file.tell()
        self.n_rows = max(0, path.stat().st_size - start) // self._row_bytes
        self._waiting = bytearray()
        self._file.seek(start + self.n_rows * self._row_bytes)

    def __enter__(self) -> "ArrayWriter":
        missing = self._total_bytes - self.n_rows * self._row_bytes
        if shutil.disk_usage(self.path.parent).free < missing:
            self._file.close()
            raise self._disk_full()
        return self

    def append(self, rows: np.ndarray) -> None:
        """Write rows ``[n, ...]``, many at once, and see to it that they reach the disk."""
        self._waiting += memoryview(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))
        self.n_rows += len(rows)
        if len(self._waiting) >= _WRITTEN_AT_ONCE:
            self._write()

    def _write(self) -> None:
        try:
            left = memoryview(self._waiting)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise self._disk_full() from error
            raise
        self._waiting = bytearray()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._waiting and not isinstance(error, ContentError | OSError):  # after these the store is removed
                self._write()
        finally:
            self._file.close()

    def _disk_full(self) -> ContentError:
        cache = self.path.parent.parent
        free = shutil.disk_usage(cache).free
        return ContentError(
            f"The disk of {cache} is full: {self.path.stem} of the items need {self._total_bytes} bytes "
            f"({self._total_bytes / 1e9:.2f} GB), {free} are free. Make room, or set `content_cache` to a "
            "folder on a larger disk."
        )


def content_hash(folder: Path) -> str:
    """A hash of the arrays in a store; noted there when it is first asked for, for large stores take seconds to read.

    Unlike the store's name, which tells what it was made from, it is the same for the same arrays wherever they lie.

    Raises
    ------
    ContentError
        If a file cannot be read.
    """
    noted = folder / "arrays.sha256"
    try:
        if noted.is_file():
            return noted.read_text()
        hashed = hashlib.sha256()
        for path in sorted(folder.glob("*.npy")):
            with path.open("rb") as file:
                hashed.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    except OSError as error:
        raise ContentError(f"{folder} cannot be read ({error}): delete it, it will be made again.") from error
    with suppress(OSError):  # a store that cannot be written any more is hashed again
        partial = folder / f"{noted.name}.{os.getpid()}.partial"
        partial.write_text(hashed.hexdigest())
        partial.replace(noted)
    return hashed.hexdigest()


def open_array(path: Path) -> np.ndarray:
    """Open an array of a store as a read-only memory map.

    Raises
    ------
    ContentError
        If the file is missing or damaged.
    """
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise ContentError(f"{path} is damaged ({error}): delete {path.parent}, it will be made again.") from error


def release_pages(array: np.memmap) -> None:
    """Give back the memory of what was read of an array from :func:`open_array`; what is read again comes from disk."""
    if hasattr(mmap, "MADV_DONTNEED"):  # elsewhere the system takes it when it needs some
        array._mmap.madvise(mmap.MADV_DONTNEED)
