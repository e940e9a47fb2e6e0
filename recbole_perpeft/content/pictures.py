"""Opening pictures as RGB."""

import functools
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from recbole_perpeft.utils.errors import ContentError

# What Pillow reads with its own decoders, and knows by a signature in the file: no data, documents or programs.
# (MPO, of phones, it opens as a JPEG.)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO", "MPO")
# Processors scale the short side to the encoder's size first: beyond this ratio the long side would fill the
# memory.
MAX_ASPECT_RATIO = 1000


class UnreadablePicture(ContentError):
    """A file that cannot be opened as a picture; the message is the reason without the file's name."""


class TooManyPixels(UnreadablePicture):
    """A picture whose header tells more pixels than are allowed."""

    def __init__(self, limit: int):
        super().__init__(f"more than {limit:,} pixels, the limit against decompression bombs")


@functools.cache
def formats() -> tuple[str, ...]:
    """Formats of pictures that the installed Pillow reads, by its names for them."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


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
