"""The catalogue's content as it lies on the disk: where each item's picture is, what its text is, what is missing."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole_perpeft.content.picture_files import find_by_column, find_by_item_id
from recbole_perpeft.content.texts import join_texts
from recbole_perpeft.utils.errors import ContentError

SHOWN_ITEMS = 5
_MANY = 0.1  # of all items, with a text that another has too
_PLACEHOLDER = 0.05  # of all pictures, by one file

Rows = Mapping[str, Mapping[str, str]]  # item id -> column -> value, of read_item_texts


def find_pictures(
    item_ids: Sequence[str], rows: Rows, folder: Path, image_field: str | None, image_dir: str
) -> list[Path | None]:
    """Each item's picture, None where there is none.

    Raises
    ------
    ContentError
        If the pictures' folder does not exist, or a path leads out of the data set's folder.
    """
    if image_field is None:
        return find_by_item_id(item_ids, folder, image_dir)
    return find_by_column(item_ids, {item_id: row[image_field] for item_id, row in rows.items()}, folder)


def find_texts(item_ids: Sequence[str], rows: Rows, fields: Sequence[str], template: str | None) -> list[str]:
    """Each item's text, empty where there is none."""
    blank = dict.fromkeys(fields, "")
    return [join_texts(rows.get(item_id, blank), fields, template) for item_id in item_ids]


def place_of_pictures(item_file: str | os.PathLike, folder: Path, image_field: str | None, image_dir: str) -> str:
    """Where :func:`find_pictures` looks, in words."""
    return f"column {image_field!r} of {item_file}" if image_field else f"the folder {folder / image_dir}"


def place_of_texts(item_file: str | os.PathLike, fields: Sequence[str]) -> str:
    """Where :func:`find_texts` looks, in words."""
    return f"the columns {', '.join(fields)} of {item_file}"


def count_found(item_ids: Sequence[str], content: Sequence, modality: str, where: str, missing_content: str) -> str:
    """Say in words how many items have content of a modality.

    Raises
    ------
    ContentError
        If none has, or some lack it and ``missing_content`` is ``error``.
    """
    noun, substitute = {"image": ("picture", "the mean colour"), "text": ("text", "the empty text")}[modality]
    n_items = len(item_ids)
    missing = [item_id for item_id, value in zip(item_ids, content, strict=True) if not value]
    if not missing:
        return f"{n_items} {noun}s"
    if len(missing) == n_items:
        raise ContentError(
            f"None of the {n_items} items ({shown(missing)}) has a {noun} in {where}. Check that the item ids are "
            f"the same there, or leave {noun}s out: {without(modality)}."
        )
    if missing_content == "error":
        raise ContentError(
            f"{len(missing)} of {n_items} items have no {noun} in {where}: {shown(missing)}. Add them, or set "
            f"`missing_content: neutral` to put {substitute} in their place (now `missing_content: error`)."
        )
    return f"{n_items - len(missing)} {noun}s ({len(missing)} missing, {substitute} stands in)"


def repeated_texts(texts: Sequence[str]) -> str | None:
    """What to say where many items have a text that another has too; None where few have."""
    counts = Counter(text for text in texts if text)
    alike = sum(count for count in counts.values() if count > 1)
    if alike <= _MANY * len(texts):
        return None
    text, count = counts.most_common(1)[0]
    most = text if len(text) <= 60 else f"{text[:60]}…"
    return (
        f"{alike} of {len(texts)} items have the text of another item, {count} of them {most!r}: no encoder tells them "
        "apart by it. Add columns to text_fields that differ."
    )


def repeated_picture(paths: Sequence[Path | None], hashes: Sequence[str | None]) -> str | None:
    """What to say where many items have one and the same picture; None where none is that common."""
    counts = Counter(hashed for hashed in hashes if hashed)
    hashed, count = counts.most_common(1)[0] if counts else (None, 0)
    if count <= max(1, _PLACEHOLDER * counts.total()):
        return None
    return (
        f"{count} of {counts.total()} items have the picture {paths[hashes.index(hashed)]}, perhaps a shop's sign for "
        "none: delete it where it says nothing, and set missing_content: neutral."
    )


def shown(item_ids: Sequence[str]) -> str:
    """The first few of a list of item ids."""
    first = ", ".join(repr(item_id) for item_id in item_ids[:SHOWN_ITEMS])
    return first + (", …" if len(item_ids) > SHOWN_ITEMS else "")


def without(modality: str) -> str:
    """The setting that leaves a modality out."""
    return f"drop it with `modalities: [{'text' if modality == 'image' else 'image'}]`"
