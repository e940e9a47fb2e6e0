"""Rows that may lie in a file: the system keeps as much of it in memory as there is room, and can take that back."""

import mmap
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from recbole_perpeft.utils.errors import TrainingError

IN_MEMORY = 2**25  # bytes up to which new rows are in memory, whatever else is

_MAPS = WeakTensorKeyDictionary()  # of a tensor in a file: its memory map


def as_tensor(array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
    """``array``, its bytes read as ``dtype``, as a tensor that shares its memory and knows whether that is mapped."""
    with warnings.catch_warnings():  # torch has no read-only tensors; nothing writes to those that are mapped so
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        rows = torch.from_numpy(array)
    if dtype is not None:
        rows = rows.view(dtype)
    if isinstance(array, np.memmap):
        _MAPS[rows] = array
    return rows


def empty_rows(
    n: int, width: int, device: torch.device, folder: Callable[[], Path], setting: str = "content_cache"
) -> torch.Tensor:
    """Room for rows ``[n, width]`` in single precision: in a file without a name, where a CPU has many of them.

    Parameters
    ----------
    folder
        Gives where the file lies; the disk has its room again when nobody has the rows any more.
    setting
        That names the folder.

    Raises
    ------
    TrainingError
        If the disk has none, or the folder cannot be written.
    """
    size = 4 * n * width
    if device.type != "cpu" or size <= IN_MEMORY:
        return torch.empty(n, width, device=device)
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder()) as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would end the process when the rows are written
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return as_tensor(np.memmap(file, dtype=np.float32, mode="r+", shape=(n, width)))
    except OSError as error:
        raise TrainingError(
            f"{folder()} ({setting}) cannot hold {size / 1e9:.2f} GB, a table of {n} rows ({error}): make room, or set "
            f"{setting} to a folder on a larger disk."
        ) from error


def fill(rows: torch.Tensor, parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """Put ``parts`` ``[some, width]`` into ``rows``, one after the other; gives ``rows``."""
    at = 0
    for part in parts:
        rows[at : at + len(part)] = part
        at += len(part)
        release(rows)
    return rows


def rows_from(rows: torch.Tensor, first: int) -> torch.Tensor:
    """``rows[first:]``, which know whether they are mapped."""
    rest = rows[first:]
    if rows in _MAPS:
        _MAPS[rest] = _MAPS[rows]
    return rest


def release(rows: torch.Tensor) -> None:
    """Give back the memory of what was read or written of rows in a file; read again they come from there."""
    mapped = _MAPS.get(rows)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # elsewhere the system takes it when it needs some
        mapped._mmap.madvise(mmap.MADV_DONTNEED)


def blocks(rows: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """``size`` of the ``rows`` at a time; of rows in a file no more than these are in memory."""
    for block in rows.split(size):
        yield block
        release(rows)
