"""Pixels that a store of another catalogue holds already: only new pictures are opened."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from recbole_perpeft.content.store import note_kind, open_array, stores_beside

_FILES = "files.txt"


def note_pictures(folder: Path, kind: str, hashes: Sequence[str | None], bad: Collection[int]) -> None:
    """Note in a store of pixels of which files they are, so that stores of other catalogues can take from it.

    Parameters
    ----------
    folder
        The store.
    kind
        The same for all that is made by the same image processor.
    hashes
        Of each row's file; None for a row without.
    bad
        Rows whose file cannot be used.
    """
    note_kind(folder, kind)
    usable = (hashed if hashed and row not in bad else "" for row, hashed in enumerate(hashes))
    (folder / _FILES).write_text("\n".join(usable))


def known_pixels(store: Path, kind: str, hashes: Sequence[str | None]) -> dict[int, np.ndarray]:
    """Rows of a new store that stores beside it hold, uint8 ``[3, H, W]`` each.

    Parameters
    ----------
    store
        The new store's folder.
    kind, hashes
        As for :func:`note_pictures`, of the new store.
    """
    wanted = {hashed for hashed in hashes if hashed}
    found: dict[str, np.ndarray] = {}
    for other in stores_beside(store, kind):
        pixels = open_array(other / "pixels.npy")
        for row, hashed in enumerate((other / _FILES).read_text().split("\n")):
            if hashed in wanted:
                found.setdefault(hashed, pixels[row])
    return {row: found[hashed] for row, hashed in enumerate(hashes) if hashed in found}
