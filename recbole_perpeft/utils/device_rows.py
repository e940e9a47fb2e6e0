"""Rows of an array on disk, gathered onto the device that computes with them."""

import numpy as np
import torch

from recbole_perpeft.utils.mapped_rows import as_tensor, release

# What of a GPU's free memory the arrays may take when they are placed; the rest is for models and activations.
_SHARE_OF_FREE_MEMORY = 0.4
# Of a memory map that is read row by row: bytes that the system may map for one, and that may be mapped before they are
# given back.
_MAPPED_FOR_A_ROW, _MAPPED = 2**16, 2**29


class DeviceRows:
    """Gathers rows of a read-only array for a device.

    On a GPU the whole array is kept in its memory if it fits, so that no step waits for the disk or the bus; else rows
    are copied through pinned memory while the GPU computes.

    Parameters
    ----------
    array
        ``[n_rows, ...]``, usually a memory map.
    device
        Where the rows are needed.
    dtype
        Type to read the bytes as, of the same size as the array's own; numpy has no bfloat16.
    """

    def __init__(self, array: np.ndarray, device: torch.device, dtype: torch.dtype | None = None):
        self.device = torch.device(device)
        self._rows = as_tensor(array, dtype)
        self._read = 0
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if self._rows.nbytes < _SHARE_OF_FREE_MEMORY * free:
                self._rows = self._rows.to(self.device)

    def whole(self) -> torch.Tensor:
        """All rows, ``[n_rows, ...]`` on the device; on a CPU they stay where they are."""
        if self._rows.device.type == self.device.type:
            return self._rows
        return self.gather(torch.arange(len(self._rows)))

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows ``[n]`` (on the CPU) of the array, ``[n, ...]`` on the device."""
        if self._rows.device.type == "cuda":
            return self._rows.index_select(0, to_device(rows, self.device))
        self._read += len(rows)
        if self._read * _MAPPED_FOR_A_ROW > _MAPPED:
            release(self._rows)
            self._read = 0
        if self.device.type == "cpu":
            return self._rows.index_select(0, rows)
        pinned = torch.empty(len(rows), *self._rows.shape[1:], dtype=self._rows.dtype, pin_memory=True)
        torch.index_select(self._rows, 0, rows, out=pinned)
        return pinned.to(self.device, non_blocking=True)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` on ``device``; from the CPU to a GPU through pinned memory, without waiting for the copy."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
