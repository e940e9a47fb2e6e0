"""Finding the items' pictures and opening them as RGB."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from recbole_perpeft.content.errors import ContentError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")  # of an item's pictures the first in this order counts
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
# Processors scale the short side to the encoder's size first: beyond this ratio the long side would fill the
# memory.
MAX_ASPECT_RATIO = 1000
_TOO_LARGE = "more than {} pixels, Pillow's limit against decompression bombs"


def find_by_item_id(item_ids: Sequence[str], folder: Path, image_dir: str) -> list[Path | None]:
    """Find ``<image_dir>/<item_id>.jpg`` (or jpeg, png, webp) for every item.

    Ids are looked up in the listing of the folder, so an id with path separators finds nothing outside it.

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
    found: dict[str, Path] = {}
    rank: dict[str, int] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            stem, extension = os.path.splitext(entry.name)
            if extension.lower() in EXTENSIONS and entry.is_file():
                position = EXTENSIONS.index(extension.lower())
                if position < rank.get(stem, len(EXTENSIONS)):
                    found[stem], rank[stem] = directory / entry.name, position
    return [found.get(item_id) for item_id in item_ids]


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
    """Open a JPEG, PNG, WEBP or GIF picture as RGB.

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
    ContentError
        If the file is empty, cut short, no picture, or absurdly large. The message is the reason without the
        file's name.
    """
    try:
        if path.stat().st_size == 0:
            raise ContentError("the file is empty (0 bytes)")
        with Image.open(path, formats=FORMATS) as image:
            return _to_rgb(image)
    except ContentError:
        raise
    except UnidentifiedImageError:
        raise ContentError(f"not a picture in one of the formats {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ContentError(_TOO_LARGE.format(Image.MAX_IMAGE_PIXELS)) from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        raise ContentError(f"cut short or damaged ({error})") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    # Pillow refuses beyond twice its limit and warns before that; here its limit is the limit.
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise ContentError(_TOO_LARGE.format(Image.MAX_IMAGE_PIXELS))
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise ContentError(f"{image.width} x {image.height} pixels is not the shape of a picture")
    image.load()
    with suppress(Exception):  # a damaged EXIF block says nothing against the pixels, which are loaded
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion clips
        grey = np.asarray(image).astype(np.uint32)  # [h, w] in 0 .. 65535
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy an RGB picture
