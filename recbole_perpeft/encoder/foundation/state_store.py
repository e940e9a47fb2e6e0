"""What the frozen part of an encoder gives for every item, computed once and kept on disk."""

from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from recbole_perpeft.content.store import ArrayWriter, ensure_store, open_array
from recbole_perpeft.encoder.foundation.known_states import KnownStates, note_items
from recbole_perpeft.utils.device_rows import DeviceRows

# numpy has no bfloat16: its bytes are kept as whole numbers
_CHUNK = 256  # items computed and written together
_STORED_AS = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.int16}


class StateStore:
    """States of all items, ``[lengths[i], d]`` for item ``i``, one after the other in one memory map.

    Parameters
    ----------
    folder
        The store, from :func:`ensure_states`.
    lengths
        Positions of each item, ``[n_items]``.
    dtype
        Type of the states.
    device
        Where they are needed.

    Attributes
    ----------
    longest : int
        The most positions of an item.
    """

    def __init__(self, folder: Path, lengths: np.ndarray, dtype: torch.dtype, device: torch.device):
        self._lengths = torch.from_numpy(np.asarray(lengths, dtype=np.int64))
        self._starts = self._lengths.cumsum(0) - self._lengths
        self.longest = int(self._lengths.max())
        self._rows = DeviceRows(open_array(folder / "states.npy"), device, dtype)

    def whole(self) -> torch.Tensor:
        """States of all items on the device, one after the other, ``[sum of lengths, d]``."""
        return self._rows.whole()

    def gather(self, items: torch.Tensor, positions: int) -> torch.Tensor:
        """States of items ``[n]`` (on the CPU), ``[n, positions, d]`` on the device.

        Beyond an item's own positions its last state is repeated: a mask has to hide it.
        """
        within = torch.minimum(torch.arange(positions), self._lengths[items, None] - 1)  # [n, positions]
        rows = self._rows.gather((self._starts[items, None] + within).view(-1))
        return rows.view(len(items), positions, -1)


def ensure_states(
    folder: Path,
    lengths: np.ndarray,
    compute: Callable[[torch.Tensor], torch.Tensor],
    *,
    description: str,
    show_progress: bool,
    kind: str,
    contents: Callable[[], Sequence[str]],
) -> None:
    """Make a store of states unless it is there; an interrupted run goes on where it stopped.

    What stores beside it hold, of items that look the same, is taken from there: of a catalogue that has grown only the
    new items are computed.

    Parameters
    ----------
    folder
        The store's folder.
    lengths
        Positions of each item, ``[n_items]``.
    compute
        Gives the states of items ``[n]``, ``[n, longest of their lengths, d]``.
    description
        What the states are, for the log and the progress bar.
    show_progress
        Whether to show a bar.
    kind
        The same for the same states of other catalogues.
    contents
        Gives a hash of what the encoder reads of each item.

    Raises
    ------
    ContentError
        If the store cannot be written.
    """
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def make(partial: Path) -> None:
        looks = contents()
        known = KnownStates(folder, kind, looks)
        note_items(partial, kind, looks, lengths)
        if known:
            getLogger().info(f"{description}: {len(known)} of {len(lengths)} items are taken from other stores.")
        first = compute(torch.zeros(1, dtype=torch.long))  # [1, length of item 0, d]
        shape = (int(starts[-1]), first.shape[-1])
        with (
            ArrayWriter(partial / "states.npy", _STORED_AS[first.dtype], shape) as writer,
            tqdm(total=len(lengths), desc=description, ncols=100, disable=not show_progress) as progress,
        ):
            item = int(np.searchsorted(starts, writer.n_rows, side="right")) - 1
            progress.update(item)
            while item < len(lengths):
                items = torch.arange(item, min(item + _CHUNK, len(lengths)))
                rows = _rows_of(items, lengths, compute, known)
                writer.append(rows[writer.n_rows - starts[item] :])  # an interrupted run may have written some
                item += len(items)
                progress.update(len(items))

    there = ensure_store(folder, make)
    getLogger().info(f"{description} of {len(lengths) - 1} items in {folder} ({'found' if there else 'made'})")


def _rows_of(
    items: torch.Tensor, lengths: np.ndarray, compute: Callable[[torch.Tensor], torch.Tensor], known: KnownStates
) -> np.ndarray:
    """Rows of ``items [n]``, one item after the other, as they are stored; what is not ``known`` is computed."""
    new = torch.tensor([item for item in items.tolist() if item not in known], dtype=torch.long)
    if len(new) == len(items):
        return _without_padding(compute(items), lengths[items.numpy()])
    computed = []
    if len(new):
        of_new = lengths[new.numpy()]
        computed = np.split(_without_padding(compute(new), of_new), np.cumsum(of_new)[:-1])
    found = dict(zip(new.tolist(), computed, strict=True))
    return np.concatenate([known[item] if item in known else found[item] for item in items.tolist()])


def _without_padding(states: torch.Tensor, lengths: np.ndarray) -> np.ndarray:
    """Rows of the items' own positions, ``[sum of lengths, d]``, as they are stored."""
    own = torch.arange(states.shape[1]) < torch.from_numpy(np.asarray(lengths))[:, None]
    rows = states.cpu()[own]  # [sum of lengths, d]
    return (rows.view(torch.int16) if rows.dtype == torch.bfloat16 else rows).numpy()
