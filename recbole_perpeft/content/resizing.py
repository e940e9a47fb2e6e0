"""What common image processors do to a picture, on Pillow's picture itself.

Transformers' Pillow processors turn each picture into an array, back into a picture for resizing, and into an array
again, and check their settings every time: a fifth of the work on a picture. Where a processor only resizes and
crops, the same pixels come from Pillow directly.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend

# A processor that does anything else than these is asked itself, picture by picture.
_STEPS = ("__call__", "preprocess", "process_image", "_preprocess", "resize", "center_crop")
_PROBES = ((64, 48), (37, 91), (300, 301), (50, 50), (8, 5))  # width and height


class Resizing(NamedTuple):
    """Resizing and a crop of the middle.

    Attributes
    ----------
    shortest_edge
        What the shorter side becomes, in pixels; None where all pictures get `size`.
    size
        Width and height after resizing, or None.
    crop
        Width and height of what is kept, or None for everything.
    resample
        Pillow's filter.
    """

    shortest_edge: int | None
    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: Image.Resampling

    def __call__(self, picture: Image.Image) -> np.ndarray:
        """Resize and crop an RGB picture: uint8 ``[3, H, W]``, a view."""
        picture = picture.resize(self.size or self._scaled(*picture.size), self.resample)
        if self.crop:
            left, top = ((whole - kept) // 2 for whole, kept in zip(picture.size, self.crop, strict=True))
            picture = picture.crop((left, top, left + self.crop[0], top + self.crop[1]))
        return np.asarray(picture).transpose(2, 0, 1)

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        edge = self.shortest_edge
        return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)


def find_resizing(processor, process: Callable[[Image.Image], np.ndarray]) -> Resizing | None:
    """Express an image processor as resizing and cropping, if that is all it does.

    Parameters
    ----------
    processor
        A Hugging Face image processor.
    process
        Gives the processor's own pixels of a picture, uint8 ``[3, H, W]``; what is returned was seen to give the same.

    Returns
    -------
    Resizing or None
        None for a processor that does anything else.
    """
    resizing = _read(processor)
    if resizing is None:
        return None
    rng = np.random.default_rng(0)
    for width, height in _PROBES:
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        if not np.array_equal(resizing(picture), process(picture)):
            return None
    return resizing


def _read(processor) -> Resizing | None:
    usual = isinstance(processor, PilBackend) and all(
        getattr(type(processor), step) is getattr(PilBackend, step) for step in _STEPS
    )
    if not usual or not processor.do_resize or processor.do_pad or processor.resample is None:
        return None
    wanted = dict(processor.size)
    if wanted.keys() == {"shortest_edge"}:
        edge, size = wanted["shortest_edge"], None
    elif wanted.keys() == {"height", "width"}:
        edge, size = None, (wanted["width"], wanted["height"])
    else:
        return None
    crop = (processor.crop_size.width, processor.crop_size.height) if processor.do_center_crop else None
    if crop and any(kept > least for kept, least in zip(crop, size or (edge, edge), strict=True)):
        return None  # the processor pads
    return Resizing(edge, size, crop, Image.Resampling(processor.resample))
