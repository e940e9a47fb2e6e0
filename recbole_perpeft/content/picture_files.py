"""Finding the items' pictures; none is opened."""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole_perpeft.content.picture_names import hashed_stem_of, stem_of
from recbole_perpeft.utils.errors import ContentError

_USUAL = (".jpg", ".jpeg", ".png", ".webp")


def find_by_item_id(
    item_ids: Sequence[str], folder: Path, image_dir: str, endings: Sequence[str] | None = None
) -> list[Path | None]:
    """Find ``<image_dir>/<item_id>.jpg``, or with another of ``endings``, for every item.

    Of several pictures of an item the first in the order of ``endings`` counts, of those the first by name; last comes
    a file that is called as the item, without an ending. Ids that cannot be names of files are looked for by
    those of :mod:`~recbole_perpeft.content.picture_names` too. Ids are looked up in the listing of the folder, so an id
    with path separators finds nothing outside it.

    Parameters
    ----------
    item_ids
        External item ids.
    folder
        The data set's folder.
    image_dir
        The pictures' folder, absolute or relative to `folder`.
    endings
        Of names of pictures, in lower case; by default :func:`extensions`.

    Returns
    -------
    list of Path or None
        One entry per item; None where there is no picture.

    Raises
    ------
    ContentError
        If the pictures' folder does not exist.
    """
    directory = folder / image_dir
    if not directory.is_dir():
        raise ContentError(
            f"There is no folder {directory}: set `image_dir` to the folder with the items' pictures, or "
            "`image_field` to the column of the item file with their paths."
        )
    found = listing(directory, endings)
    stems = [stem_of(item_id) for item_id in item_ids]
    # the file a%20b is that of the item "a b", also where there is an item "a%20b"
    of_others = {stem for item_id, stem in zip(item_ids, stems, strict=True) if stem != item_id}

    def first_of(item_id: str, stem: str) -> Path | None:
        names = found.get(stem) or found.get(hashed_stem_of(item_id))
        if not names and item_id not in of_others:
            names = found.get(item_id)
        return directory / names[0] if names else None

    return list(map(first_of, item_ids, stems))


def listing(directory: Path, endings: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Names of the files in a folder by the item id that they stand for, the one that counts first."""
    order = {extension: position for position, extension in enumerate(endings or extensions())}
    found: dict[str, list[tuple[int, str]]] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            stem, extension = os.path.splitext(entry.name)
            position = order.get(extension.lower())
            if not _is_file(entry):
                continue
            if position is not None:
                found.setdefault(stem, []).append((position, entry.name))
            found.setdefault(entry.name, []).append((len(order), entry.name))
    return {stem: [name for _, name in sorted(names)] for stem, names in found.items()}


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


@functools.cache
def extensions() -> tuple[str, ...]:
    """File name endings of pictures, in lower case: the usual ones, then others that Pillow knows, by the alphabet."""
    from PIL import Image  # late: with its decoders, which who names endings does not need

    from recbole_perpeft.content.pictures import FORMATS

    known = (extension for extension, name in Image.registered_extensions().items() if name in FORMATS)
    return (*_USUAL, *sorted(set(known) - set(_USUAL)))


def find_by_column(item_ids: Sequence[str], paths: Mapping[str, str], folder: Path) -> list[Path | None]:
    """Find the pictures that a column of the item file names.

    Parameters
    ----------
    item_ids
        External item ids.
    paths
        Item id -> path of its picture relative to `folder`.
    folder
        The data set's folder.

    Returns
    -------
    list of Path or None
        One entry per item; None where no path is given or no file lies there.

    Raises
    ------
    ContentError
        If a path leads out of the data set's folder.
    """
    found: list[Path | None] = []
    for item_id in item_ids:
        value = paths.get(item_id, "").strip()
        # By its letters alone: a folder of pictures that is a symbolic link to another disk is no escape.
        if os.path.isabs(value) or os.path.normpath(value).split(os.sep)[0] == "..":
            raise ContentError(
                f"The picture of item {item_id!r} is given as {value!r}, which lies outside the data set's "
                f"folder {folder}: write paths relative to that folder."
            )
        path = folder / value
        found.append(path if value and path.is_file() else None)
    return found
