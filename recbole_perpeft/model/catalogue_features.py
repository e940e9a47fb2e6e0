"""What the item encoder sees of the whole catalogue, some items at a time or in one table."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from recbole_perpeft.utils.mapped_rows import empty_rows, fill
from recbole_perpeft.utils.processes import Share, gather_rows, share

CHUNK = 2048  # items of a catalogue between two looks at the progress bar
_CHUNKS_WORTH_A_BAR = 8


class CatalogueFeatures:
    """Features of all items, as one of the encoder's modules sees them.

    Parameters
    ----------
    encoder : ItemEncoder
        Of which this is no owner.
    n_items
        Rows of the catalogue, padding included.
    show_progress
        Whether encoding a catalogue shows a bar.
    folder
        Gives where tables lie that are too large for memory.
    """

    def __init__(self, encoder: nn.Module, n_items: int, show_progress: bool, folder: Callable[[], Path]):
        self._encoder, self._n_items, self._show_progress, self._folder = encoder, n_items, show_progress, folder

    def share(self, n: int, module: int) -> Share | None:
        """What of ``n`` items this process encodes for all; None: all, as where features are only looked up."""
        return share(n) if self._encoder.adapter_parameters(module) else None

    def blocks(self, module: int, group: int) -> Iterator[torch.Tensor]:
        """Of some items at a time, without padding, ``[some, content_size]``; the bar names ``group``."""
        items = torch.arange(1, self._n_items)
        part = self.share(len(items), module)
        if part is None:
            yield from self._encoded(items, module, group)
        else:
            own = torch.cat(list(self._encoded(items[part.rows], module, group)))
            yield from gather_rows(own, len(items)).split(CHUNK)

    def _encoded(self, items: torch.Tensor, module: int, group: int) -> Iterator[torch.Tensor]:
        chunks = items.split(CHUNK)
        hidden = not self._show_progress or len(chunks) < _CHUNKS_WORTH_A_BAR
        bar = tqdm(chunks, desc=f"Encode items, group {group}", ncols=100, leave=False, disable=hidden)
        with self._encoder.activate(module):
            for chunk in bar:
                yield self._encoder.encode(chunk, module)

    def whole(self, module: int, group: int, device: torch.device) -> torch.Tensor:
        """``[n_items, content_size]``, zeros in the row of padding."""
        table = self.room(self._n_items, self._encoder.feature_dim, device)
        return fill(table, chain([table.new_zeros(1, table.shape[1])], self.blocks(module, group)))

    def room(self, n: int, width: int, device: torch.device) -> torch.Tensor:
        """A table ``[n, width]`` to be filled, in a file if it is large."""
        return empty_rows(n, width, device, self._folder)
