"""Items' pictures from URLs: fetched side by side, checked, made small, and gone on with where it was stopped."""

import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from io import BytesIO
from logging import getLogger
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from recbole_perpeft.content.download_limits import DownloadLimits, DownloadReport
from recbole_perpeft.content.failed_downloads import (
    FILE_NAME,
    FailedDownload,
    FetchError,
    add_to_list,
    read_list,
    write_list,
)
from recbole_perpeft.content.picture_files import listing
from recbole_perpeft.content.picture_names import hashed_stem_of, stem_of
from recbole_perpeft.content.pictures import TooManyPixels, UnreadablePicture, decode_picture
from recbole_perpeft.utils.cores import n_cores
from recbole_perpeft.utils.errors import ContentError
from recbole_perpeft.utils.files import remove_left_behind, replacing

_FIRST_PAUSE = 0.5  # seconds before the second try; twice that before the third
_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2", "TIFF": ".tif"}  # of others the format's name


def download_pictures(
    urls: Mapping[str, Sequence[str]], folder: Path, *, show_progress: bool = True, **limits
) -> DownloadReport:
    """Fetch a picture for each item, or what is missing of them.

    An item whose picture is in the folder is not fetched again. A URL that has failed for good (it does not exist, or
    is no picture) is noted in ``pictures_failed.tsv`` and not tried again; one that may come back is.

    What comes is decoded before it is kept, scaled to ``shorter_side``, and written under another name first, so that
    a file is whole or not there. File names are made by :mod:`~recbole_perpeft.content.picture_names`:
    ``image_dir: FOLDER`` finds them.

    Only ``http`` and ``https`` URLs of public hosts are fetched, see
    :class:`~recbole_perpeft.content.safe_http.Client`.

    Parameters
    ----------
    urls
        Item id to URLs of its picture, the best first; a later one is tried if those before it fail.
    folder
        Where pictures go; made if it is not there.
    show_progress
        Whether to show a progress bar.
    limits
        Fields of :class:`~recbole_perpeft.content.download_limits.DownloadLimits`.

    Returns
    -------
    DownloadReport

    Raises
    ------
    ContentError
        If a limit is not possible, the package urllib3 is missing, or the folder cannot be written; what was fetched
        until then stays.
    """
    try:
        from recbole_perpeft.content.safe_http import Client
    except ModuleNotFoundError as error:
        raise ContentError(
            f"Pictures are fetched by the package {error.name}, which is not installed: "
            "pip install 'recbole-perpeft[pictures]'."
        ) from error
    folder, chosen = Path(folder), DownloadLimits(**limits)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_left_behind(folder)
        report = _Download(urls, folder, chosen, Client).run(show_progress)
    except OSError as error:  # of the disk: those of the net are caught where they come up
        raise ContentError(
            f"Pictures cannot be written to {folder}: {error}. What was fetched stays; the same command goes on."
        ) from error
    getLogger().info(str(report))
    return report


class _Download:
    """One call of :func:`download_pictures`."""

    def __init__(self, urls: Mapping[str, Sequence[str]], folder: Path, limits: DownloadLimits, client: type):
        self._urls, self._folder, self._limits, self._client = urls, folder, limits, client
        self._report = DownloadReport(folder / FILE_NAME)
        self._noted = read_list(folder / FILE_NAME)
        self._for_good = {failed.url: failed for failed in self._noted if failed.for_good}
        self._names = _names(list(urls))
        self._stop = threading.Event()
        self._pauses = _Pauses(self._stop)
        self._decoding = threading.Semaphore(n_cores())  # a decoded picture is large
        self._of_thread, self._clients = threading.local(), []

    def run(self, show_progress: bool) -> DownloadReport:
        there = listing(self._folder)
        missing = []
        for item_id in self._urls:
            names = [name for name in there.get(self._names[item_id], ()) if name != self._names[item_id]]
            if names:
                self._report.files[item_id] = names[0]
            else:
                missing.append(item_id)
        failures = [failed for failed in self._noted if failed.item_id not in self._urls]
        bar = tqdm(total=len(self._urls), initial=len(self._urls) - len(missing), desc="Pictures", unit=" items",
                   disable=not show_progress)  # fmt: skip
        with bar, warnings.catch_warnings(), closing(self._side_by_side(missing)) as results:
            warnings.simplefilter("ignore")  # Pillow's, about EXIF blocks and the like
            for item_id, (name, failed) in results:
                if name:
                    self._report.files[item_id] = name
                    self._report.fetched += 1
                else:
                    self._note(item_id, failed)
                    failures += failed
                bar.update()
        write_list(self._report.listed_in, failures)
        return self._report

    def _note(self, item_id: str, failed: list[FailedDownload]) -> None:
        self._report.failed[item_id] = "; ".join(failure.reason for failure in failed)
        self._report.again += not all(failure.for_good for failure in failed)
        new = [failure for failure in failed if failure.url not in self._for_good]
        add_to_list(self._report.listed_in, new)  # at once, for who is killed

    def _side_by_side(self, item_ids: list[str]) -> Iterator[tuple[str, "_Result"]]:
        """The items' results as they come; at the end, also before its time, all threads end."""

        def start() -> None:
            limits = self._limits
            self._of_thread.client = self._client(
                max_bytes=limits.max_bytes,
                connect_timeout=limits.connect_timeout,
                read_timeout=limits.read_timeout,
                total_timeout=limits.total_timeout,
                max_redirects=limits.max_redirects,
                private_hosts=limits.private_hosts,
            )
            self._clients.append(self._of_thread.client)

        pool = ThreadPoolExecutor(self._limits.workers, initializer=start)
        running: dict[Future, str] = {}
        try:
            for item_id in item_ids:
                running[pool.submit(self._one, item_id)] = item_id
                if len(running) >= 4 * self._limits.workers:
                    yield from _those_that_end(running)
            while running:
                yield from _those_that_end(running)
        finally:
            self._stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for client in self._clients:
                client.abort()
            pool.shutdown()
            for client in self._clients:
                client.close()

    def _one(self, item_id: str) -> "_Result":
        """The name of an item's picture, or why each of its URLs gave none."""
        failed = []
        for url in dict.fromkeys(self._urls[item_id]):
            if self._stop.is_set():
                break
            if url in self._for_good:
                failed.append(self._for_good[url]._replace(item_id=item_id))
                continue
            name, failure = self._try(item_id, url)
            if name:
                return name, []
            failed.append(failure)
        return None, failed or [FailedDownload(item_id, "", True, "no URL is given")]

    def _try(self, item_id: str, url: str) -> tuple[str | None, FailedDownload | None]:
        for tried in range(self._limits.retries + 1):
            host = _host(url)
            try:
                self._pauses.keep(host)
                body = self._of_thread.client.fetch(url)
                return self._save(item_id, body.data), None
            except TooManyPixels as error:
                last, again = str(error), "later"
            except UnreadablePicture as error:
                last, again = str(error), "never" if body.whole else "later"
            except FetchError as error:
                last, again = str(error), error.again
                if error.wait > self._limits.longest_wait:
                    last, again = f"{last}; asks to wait {error.wait:.0f} s", "later"
                elif again == "soon":
                    self._pauses.begin(host, error.wait)
            if again != "soon" or self._stop.is_set():
                break
            if tried < self._limits.retries:
                self._stop.wait(_FIRST_PAUSE * 2**tried)
        return None, FailedDownload(item_id, url, again == "never", last)

    def _save(self, item_id: str, data: bytes) -> str:
        if not data:
            raise UnreadablePicture("nothing was sent (0 bytes)")
        with self._decoding:
            picture, kind = decode_picture(BytesIO(data), self._limits.max_pixels)
            ending, scale = _ENDINGS.get(kind, f".{kind.lower()}"), self._limits.shorter_side / min(picture.size)
            if scale < 1:
                size = tuple(max(1, round(side * scale)) for side in picture.size)
                small = BytesIO()
                picture.resize(size, Image.Resampling.LANCZOS).save(small, "JPEG", quality=self._limits.quality)
                if len(small.getvalue()) < len(data):
                    data, ending = small.getvalue(), ".jpg"
        file = self._folder / f"{self._names[item_id]}{ending}"
        with replacing(file) as temporary:
            temporary.write_bytes(data)
        return file.name


_Result = tuple[str | None, list[FailedDownload]]  # see _Download._one


def _those_that_end(running: dict[Future, str]) -> Iterator[tuple[str, _Result]]:
    """Wait for some of ``running`` and take them out."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(future), future.result()


class _Pauses:
    """When each host may be asked again: one that asks one thread to wait means all."""

    def __init__(self, stop: threading.Event):
        self._until: dict[str, float] = {}
        self._stop = stop

    def begin(self, host: str, seconds: float) -> None:
        if seconds:
            self._until[host] = max(self._until.get(host, 0.0), time.monotonic() + seconds)

    def keep(self, host: str) -> None:
        seconds = self._until.get(host, 0.0) - time.monotonic()
        if seconds > 0:
            self._stop.wait(seconds)


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].lower()


def _names(item_ids: Sequence[str]) -> dict[str, str]:
    """The stem of each item's file; where two differ in capitals alone, both get one that differs in more."""
    stems = [stem_of(item_id) for item_id in item_ids]
    seen: dict[str, int] = {}
    for stem in stems:
        seen[stem.lower()] = seen.get(stem.lower(), 0) + 1
    return {
        item_id: stem if seen[stem.lower()] == 1 else hashed_stem_of(item_id)
        for item_id, stem in zip(item_ids, stems, strict=True)
    }
