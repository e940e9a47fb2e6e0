"""Finding the items' pictures and opening them as RGB."""

import functools
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from recbole_perpeft.content.picture_names import hashed_stem_of, stem_of
from recbole_perpeft.utils.errors import ContentError

# What Pillow reads with its own decoders, and knows by a signature in the file: no data, documents or programs.
# (MPO, of phones, it opens as a JPEG.)
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO", "MPO")
_USUAL = (".jpg", ".jpeg", ".png", ".webp")
# Processors scale the short side to the encoder's size first: beyond this ratio the long side would fill the
# memory.
MAX_ASPECT_RATIO = 1000


class UnreadablePicture(ContentError):
    """A file that cannot be opened as a picture; the message is the reason without the file's name."""


class TooManyPixels(UnreadablePicture):
    """A picture whose header tells more pixels than are allowed."""

    def __init__(self, limit: int):
        super().__init__(f"more than {limit:,} pixels, the limit against decompression bombs")


def find_by_item_id(item_ids: Sequence[str], folder: Path, image_dir: str) -> list[Path | None]:
    """Find ``<image_dir>/<item_id>.jpg``, or with another of :func:`extensions`, for every item.

    Of several pictures of an item the first in the order of :func:`extensions` counts, of those the first by name; last
    comes a file that is called as the item, without an ending. Ids that cannot be names of files are looked for by
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
    found = listing(directory)
    stems = [stem_of(item_id) for item_id in item_ids]
    # the file a%20b is that of the item "a b", also where there is an item "a%20b"
    of_others = {stem for item_id, stem in zip(item_ids, stems, strict=True) if stem != item_id}

    def first_of(item_id: str, stem: str) -> Path | None:
        names = found.get(stem) or found.get(hashed_stem_of(item_id))
        if not names and item_id not in of_others:
            names = found.get(item_id)
        return directory / names[0] if names else None

    return list(map(first_of, item_ids, stems))


def listing(directory: Path) -> dict[str, list[str]]:
    """Names of the files in a folder by the item id that they stand for, the one that counts first."""
    order = {extension: position for position, extension in enumerate(extensions())}
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
def formats() -> tuple[str, ...]:
    """Formats of pictures that the installed Pillow reads, by its names for them."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def extensions() -> tuple[str, ...]:
    """File name endings of pictures, in lower case: the usual ones, then others that Pillow knows, by the alphabet."""
    known = (extension for extension, name in Image.registered_extensions().items() if name in _FORMATS)
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


def open_picture(path: Path) -> Image.Image:
    """Open a picture in one of :func:`formats` as RGB, whatever its name ends in.

    The first frame is taken, turned as its EXIF block says; transparent parts are shown on white; 16 bits are
    scaled to 8.

    Parameters
    ----------
    path
        The picture's file.

    Returns
    -------
    PIL.Image.Image
        The picture in mode ``RGB``.

    Raises
    ------
    UnreadablePicture
        If the file is empty, cut short, no picture, or absurdly large.
    """
    try:
        if path.stat().st_size == 0:
            raise UnreadablePicture("the file is empty (0 bytes)")
    except OSError as error:
        raise UnreadablePicture(f"cannot be read ({error.strerror})") from None
    return decode_picture(path, Image.MAX_IMAGE_PIXELS)[0]


def decode_picture(file: Path | BinaryIO, max_pixels: int | None) -> tuple[Image.Image, str]:
    """As :func:`open_picture`, of a file or of bytes, and the picture's format by Pillow's name.

    Parameters
    ----------
    file
        What Pillow opens.
    max_pixels
        A picture whose header tells more is refused before anything is decoded; None: any number.

    Raises
    ------
    UnreadablePicture
        As :func:`open_picture`.
    """
    try:
        with Image.open(file, formats=formats()) as image:
            return _to_rgb(image, max_pixels), image.format
    except UnreadablePicture:
        raise
    except UnidentifiedImageError:
        raise UnreadablePicture(f"not a picture in one of the formats {', '.join(formats())}") from None
    except Image.DecompressionBombError:  # of twice Pillow's own limit
        raise TooManyPixels(max_pixels or Image.MAX_IMAGE_PIXELS) from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        raise UnreadablePicture(f"cut short or damaged ({error})") from None


def _to_rgb(image: Image.Image, max_pixels: int | None) -> Image.Image:
    # Pillow refuses beyond twice its limit and warns before that; here the limit is the limit.
    if max_pixels is not None and image.width * image.height > max_pixels:
        raise TooManyPixels(max_pixels)
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise UnreadablePicture(f"{image.width} x {image.height} pixels is not the shape of a picture")
    image.load()
    with suppress(Exception):  # a damaged EXIF block says nothing against the pixels, which are loaded
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion clips
        grey = np.asarray(image).astype(np.int64)  # [h, w]
        if grey.min() < 0 or grey.max() > 65535:
            raise UnreadablePicture("its grey values have more than 16 bits")
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadablePicture("its values are floating-point numbers, of which none is known to be white")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy an RGB picture
