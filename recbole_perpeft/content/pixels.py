"""The items' pictures as the encoder's image processor sees them, before rescaling and normalisation."""

import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from logging import getLogger
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from recbole_perpeft.content.file_hashes import hash_files
from recbole_perpeft.content.found import repeated_picture
from recbole_perpeft.content.known_pixels import known_pixels, note_pictures
from recbole_perpeft.content.pictures import UnreadablePicture, open_picture
from recbole_perpeft.content.store import ArrayWriter, digest, ensure_store
from recbole_perpeft.content.unusable_pictures import FILE_NAME, UnusablePicture, add_to_list, read_list, report
from recbole_perpeft.utils.cores import n_cores
from recbole_perpeft.utils.errors import ContentError

CHUNK = 64  # pictures per task and per write: 10 MB at 224 x 224

Process = Callable[[Image.Image], np.ndarray]  # RGB picture -> uint8 [3, H, W]


def ensure_pixels(
    cache_dir: Path,
    item_ids: Sequence[str],
    paths: Sequence[Path | None],
    processor,
    *,
    missing_content: str = "error",
    workers: int | None = None,
    show_progress: bool = True,
) -> tuple[Path, bool]:
    """Make the pixel store of the items unless it is there; files that a store beside it was made of are not opened.

    Pictures that cannot be used are listed with the reasons in a file: in the store, or where none is made, beside it.

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
    missing_content
        ``"neutral"`` shows pictures that cannot be opened as the mean colour too; ``"error"`` refuses them. What the
        processor cannot make its size of is refused in any case.
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
        If pictures cannot be used (all are tried and reported together) and `missing_content` refuses that, or
        none can; if the processor gives no uint8 pixels of one size, or the store cannot be written.
    """
    hashes, kind = hash_files(paths, Path(cache_dir)), digest(_settings(processor))
    key = digest([list(item_ids), hashes, _settings(processor)])
    store = Path(cache_dir) / f"pixels-{key}"
    total = sum(path is not None for path in paths)
    neutral = missing_content == "neutral"

    def make(partial: Path) -> None:
        listed = partial / FILE_NAME
        known = known_pixels(store, kind, hashes)
        if known:
            getLogger().info(f"Pictures: {len(known)} of {total} are taken from other stores.")
        whole = _write_pixels(
            partial / "pixels.npy", listed, item_ids, paths, processor, workers, show_progress, neutral, known
        )
        unusable = read_list(listed)
        if unusable and (len(unusable) == total or not (whole and neutral)):
            beside = store.with_name(f"{store.name}-{FILE_NAME}")
            shutil.copyfile(listed, beside)  # the store's own goes with it
            raise _refused(unusable, total, beside)
        bad = {picture.item_id for picture in unusable}
        note_pictures(partial, kind, hashes, {row for row, item_id in enumerate(item_ids) if item_id in bad})

    reused = ensure_store(store, make)
    if remark := repeated_picture(paths, hashes):
        getLogger().warning(remark)
    unusable = read_list(store / FILE_NAME)
    if unusable and not neutral:
        raise _refused(unusable, total, store / FILE_NAME)
    return store, reused


def _refused(unusable: Sequence[UnusablePicture], total: int, listed_in: Path) -> ContentError:
    cure = (
        "Check them, or do without pictures: `modalities: [text]`."
        if len(unusable) == total
        else "Repair or delete them; `missing_content: neutral` puts the mean colour in the place of those that are "
        "missing or cannot be opened."
    )
    return ContentError(f"{report(unusable, total, listed_in)}\n{cure}")


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
    file: Path,
    listed: Path,
    item_ids: Sequence[str],
    paths: Sequence[Path | None],
    processor,
    workers: int | None,
    show_progress: bool,
    neutral_for_unreadable: bool,
    known: dict[int, np.ndarray],
) -> bool:
    """Write the rows from where an interrupted run stopped, and list the pictures that cannot be used in `listed`.

    Writing ends at the first that has no place; all are tried nevertheless. Tells whether all rows are written.
    """
    neutral = _neutral(processor)
    process = partial(process_picture, processor=processor)
    workers = workers or n_cores()
    whole = True
    with (
        ArrayWriter(file, np.uint8, (len(paths), *neutral.shape)) as writer,
        tqdm(total=len(paths), initial=writer.n_rows, desc="Pictures", disable=not show_progress) as progress,
        # Threads, not processes: Pillow decodes and resizes outside Python's lock, and a process would first
        # import torch for seconds and hold it in memory.
        ThreadPoolExecutor(workers) as pool,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # Pillow's, about EXIF blocks and the like, which do not matter here
        for pixels, bad_here in _process_chunks(pool, workers, paths, writer.n_rows, process, neutral, known):
            bad = [UnusablePicture(item_ids[row], str(paths[row]), str(error)) for row, error in bad_here.items()]
            add_to_list(listed, bad)
            placed = neutral_for_unreadable and all(isinstance(e, UnreadablePicture) for e in bad_here.values())
            whole = whole and (placed or not bad)
            if whole:
                writer.append(pixels)
            progress.update(len(pixels))
    return whole


def _process_chunks(
    pool: ThreadPoolExecutor,
    workers: int,
    paths: Sequence[Path | None],
    first: int,
    process: Process,
    neutral: np.ndarray,
    known: dict[int, np.ndarray],
) -> Iterator[tuple[np.ndarray, dict[int, ContentError]]]:
    """Yield the chunks' results in order, from row `first` on; see :func:`_process_chunk`."""
    # A short queue: if the disk is slower than the workers, results do not pile up in memory.
    queue: deque[Future] = deque()
    for start in range(first, len(paths), CHUNK):
        queue.append(pool.submit(_process_chunk, start, paths[start : start + CHUNK], process, neutral, known))
        if len(queue) > 2 * workers:
            yield queue.popleft().result()
    while queue:
        yield queue.popleft().result()


def _process_chunk(
    start: int, paths: Sequence[Path | None], process: Process, neutral: np.ndarray, known: dict[int, np.ndarray]
) -> tuple[np.ndarray, dict[int, ContentError]]:
    """Give the pixels of a chunk, and why some rows' pictures cannot be used, in whose place is the mean colour."""
    pixels = np.empty((len(paths), *neutral.shape), dtype=np.uint8)  # [n, 3, H, W]
    bad: dict[int, ContentError] = {}
    for position, path in enumerate(paths):
        pixels[position] = known.get(start + position, neutral)
        if path is None or start + position in known:
            continue
        try:
            picture = process(open_picture(path))
            if picture.shape != neutral.shape:
                raise ContentError(
                    f"the image processor makes it {list(picture.shape)} and others {list(neutral.shape)}"
                )
            pixels[position] = picture
        except ContentError as error:
            bad[start + position] = error
    return pixels, bad
