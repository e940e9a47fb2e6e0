"""The items' pictures as the encoder's image processor sees them, before rescaling and normalisation."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from recbole_perpeft.content.errors import ContentError
from recbole_perpeft.content.file_hashes import hash_files
from recbole_perpeft.content.pictures import open_picture
from recbole_perpeft.content.resizing import find_resizing
from recbole_perpeft.content.store import ArrayWriter, digest, ensure_store
from recbole_perpeft.cores import n_cores

CHUNK = 64  # pictures per task and per write: 10 MB at 224 x 224
SHOWN_PICTURES = 5

Process = Callable[[Image.Image], np.ndarray]  # RGB picture -> uint8 [3, H, W]


class BadPicture(NamedTuple):
    """A picture that cannot be used, and why."""

    row: int
    reason: str


def ensure_pixels(
    cache_dir: Path,
    item_ids: Sequence[str],
    paths: Sequence[Path | None],
    processor,
    *,
    workers: int | None = None,
    show_progress: bool = True,
) -> tuple[Path, bool]:
    """Make the pixel store of the items unless it is there.

    Parameters
    ----------
    cache_dir
        Where the stores lie.
    item_ids
        External item ids, one per row.
    paths
        The rows' pictures; None is shown as the processor's mean colour.
    processor
        A Hugging Face image processor.
    workers
        How many threads open pictures; None takes as many as there are CPUs.
    show_progress
        Whether to show a progress bar.

    Returns
    -------
    tuple of Path and bool
        The store's folder, with ``pixels.npy``: uint8 ``[n_rows, 3, H, W]``; and whether it was there
        already.

    Raises
    ------
    ContentError
        If pictures cannot be used (all are tried and reported together), the processor gives no uint8 pixels
        of one size, or the store cannot be written.
    """
    key = digest([list(item_ids), hash_files(paths, Path(cache_dir)), _settings(processor)])
    store = Path(cache_dir) / f"pixels-{key}"

    def make(partial: Path) -> None:
        bad = _write_pixels(partial / "pixels.npy", paths, processor, workers, show_progress)
        if bad:
            raise ContentError(_report(bad, item_ids, paths))

    return store, ensure_store(store, make)


def process_picture(image: Image.Image, processor) -> np.ndarray:
    """Resize and crop an RGB picture with the encoder's processor.

    Returns
    -------
    numpy.ndarray
        uint8 ``[3, H, W]``.

    Raises
    ------
    ContentError
        If the processor fails or gives something else.
    """
    try:
        inputs = processor(images=[image], do_rescale=False, do_normalize=False, return_tensors="np")
    except Exception as error:  # processors raise many kinds
        raise ContentError(f"the image processor {type(processor).__name__} fails ({error})") from error
    pixels = inputs["pixel_values"]
    if pixels.ndim == 4 and pixels.shape[1] != 3:
        pixels = np.moveaxis(pixels, -1, 1)  # [1, H, W, 3] -> [1, 3, H, W]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:2] != (1, 3):
        raise ContentError(
            f"the image processor {type(processor).__name__} gives {pixels.dtype} {list(pixels.shape)} for "
            "a picture where uint8 [1, 3, H, W] is needed: choose an encoder with fixed-size RGB input."
        )
    return pixels[0]  # [3, H, W]


def _settings(processor) -> list:
    return [type(processor).__name__, processor.to_dict()]


def _neutral(processor) -> np.ndarray:
    """Return the mean colour at the processor's output size, uint8 ``[3, H, W]``."""
    mean = processor.image_mean if processor.image_mean is not None else 0.5
    colour = np.broadcast_to(np.round(255 * np.asarray(mean, dtype=np.float64)), 3).astype(np.uint8)
    shape = process_picture(Image.new("RGB", (64, 64)), processor).shape
    return np.broadcast_to(colour[:, None, None], shape)


def _write_pixels(
    file: Path, paths: Sequence[Path | None], processor, workers: int | None, show_progress: bool
) -> list[BadPicture]:
    neutral = _neutral(processor)
    ask = partial(process_picture, processor=processor)
    process = find_resizing(processor, ask) or ask
    workers = workers or n_cores()
    bad: list[BadPicture] = []
    with (
        ArrayWriter(file, np.uint8, (len(paths), *neutral.shape)) as writer,
        tqdm(total=len(paths), initial=writer.n_rows, desc="Pictures", disable=not show_progress) as progress,
        # Threads, not processes: Pillow decodes and resizes outside Python's lock, and a process would first
        # import torch for seconds and hold it in memory.
        ThreadPoolExecutor(workers) as pool,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # Pillow's, about EXIF blocks and the like, which do not matter here
        for pixels, bad_here in _process_chunks(pool, workers, paths, writer.n_rows, process, neutral):
            bad += bad_here
            if not bad:
                writer.append(pixels)
            progress.update(len(pixels))
    return bad


def _process_chunks(
    pool: ThreadPoolExecutor,
    workers: int,
    paths: Sequence[Path | None],
    first: int,
    process: Process,
    neutral: np.ndarray,
) -> Iterator[tuple[np.ndarray, list[BadPicture]]]:
    """Yield the chunks' results in order, from row `first` on."""
    # A short queue: if the disk is slower than the workers, results do not pile up in memory.
    queue: deque[Future] = deque()
    for start in range(first, len(paths), CHUNK):
        queue.append(pool.submit(_process_chunk, start, paths[start : start + CHUNK], process, neutral))
        if len(queue) > 2 * workers:
            yield queue.popleft().result()
    while queue:
        yield queue.popleft().result()


def _process_chunk(
    start: int, paths: Sequence[Path | None], process: Process, neutral: np.ndarray
) -> tuple[np.ndarray, list[BadPicture]]:
    pixels = np.empty((len(paths), *neutral.shape), dtype=np.uint8)  # [n, 3, H, W]
    bad = []
    for position, path in enumerate(paths):
        if path is None:
            pixels[position] = neutral
            continue
        try:
            picture = process(open_picture(path))
            if picture.shape != neutral.shape:
                raise ContentError(
                    f"the image processor makes it {list(picture.shape)} and others {list(neutral.shape)}"
                )
            pixels[position] = picture
        except ContentError as error:
            bad.append(BadPicture(start + position, str(error)))
    return pixels, bad


def _report(bad: list[BadPicture], item_ids: Sequence[str], paths: Sequence[Path | None]) -> str:
    lines = [f"  item {item_ids[row]!r}: {paths[row]}: {reason}" for row, reason in bad[:SHOWN_PICTURES]]
    if len(bad) > SHOWN_PICTURES:
        lines.append(f"  and {len(bad) - SHOWN_PICTURES} more")
    total = sum(path is not None for path in paths)
    return "\n".join(
        [
            f"{len(bad)} of {total} pictures cannot be used:",
            *lines,
            "Repair or delete them; an item without a picture is missing, which `missing_content: neutral` allows.",
        ]
    )
