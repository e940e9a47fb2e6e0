"""States of items that a store of another catalogue holds already: only what is new is computed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recbole_perpeft.content.store import note_kind, open_array, stores_beside

_CONTENTS, _LENGTHS = "contents.npy", "lengths.npy"


def note_items(folder: Path, kind: str, contents: Sequence[str], lengths: np.ndarray) -> None:
    """Note in a store of states what its items look like, so that stores of other catalogues can take from it.

    Parameters
    ----------
    folder
        The store.
    kind
        The same for stores of the same states of whatever catalogue.
    contents
        A hash of what the encoder reads of each item.
    lengths
        Positions of each item, ``[n_items]``.
    """
    note_kind(folder, kind)
    np.save(folder / _CONTENTS, np.array(contents, dtype="S32"))
    np.save(folder / _LENGTHS, np.asarray(lengths, dtype=np.int64))


class KnownStates:
    """What the stores beside a new one hold of its items, item by item.

    Parameters
    ----------
    folder
        The new store's.
    kind, contents
        As for :func:`note_items`, of the new store.
    """

    def __init__(self, folder: Path, kind: str, contents: Sequence[str]):
        self._places: dict[int, tuple[np.ndarray, int, int]] = {}  # of an item: rows, the first, and one after the last
        of_content = {content.encode(): item for item, content in enumerate(contents)}
        for store in stores_beside(folder, kind):
            known, ends = np.load(store / _CONTENTS), np.load(store / _LENGTHS).cumsum()
            rows, starts = open_array(store / "states.npy"), np.r_[0, ends[:-1]]
            by_content = dict(zip(known.tolist(), zip(starts.tolist(), ends.tolist(), strict=True), strict=True))
            for content in by_content.keys() & of_content.keys():
                self._places.setdefault(of_content[content], (rows, *by_content[content]))
        same = [of_content[content.encode()] for content in contents]  # items that look alike
        self._places = {item: self._places[first] for item, first in enumerate(same) if first in self._places}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, item: int) -> bool:
        return item in self._places

    def __getitem__(self, item: int) -> np.ndarray:
        """Its states as they are stored, ``[positions, d]``."""
        rows, first, end = self._places[item]
        return rows[first:end]
