"""URLs that gave no picture: why, when another try may help, and the list of them."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from recbole_perpeft.utils.errors import ContentError
from recbole_perpeft.utils.files import replacing

FILE_NAME = "pictures_failed.tsv"
_FOR_GOOD = {"for good": True, "for now": False}
_HEADER = ("item", "url", "failed", "reason")

When = Literal["never", "later", "soon"]


class FetchError(ContentError):
    """A URL that gave nothing; the message is the reason without the URL.

    Attributes
    ----------
    again : {"never", "later", "soon"}
        When another try may help: never; with other settings or on another day; in seconds.
    wait : float
        Seconds that the server asks to wait first.
    """

    def __init__(self, reason: str, again: When, wait: float = 0.0):
        super().__init__(reason)
        self.again, self.wait = again, wait


class FailedDownload(NamedTuple):
    """A URL that gave no picture; ``for_good`` if another try would not help."""

    item_id: str
    url: str
    for_good: bool
    reason: str


def read_list(file: Path) -> list[FailedDownload]:
    """Read a list; empty where there is no file. A line that is cut, of a process that was killed, is left out."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        rows = [row for row in csv.reader(lines, "excel-tab") if len(row) == len(_HEADER) and row[2] in _FOR_GOOD]
    return [FailedDownload(item_id, url, _FOR_GOOD[failed], reason) for item_id, url, failed, reason in rows]


def add_to_list(file: Path, failed: Iterable[FailedDownload]) -> None:
    """Append to a list."""
    is_new = not file.exists()
    with file.open("a", newline="", encoding="utf-8", errors="surrogateescape") as lines:
        if is_new:
            csv.writer(lines, "excel-tab").writerow(_HEADER)
        _write(lines, failed)


def write_list(file: Path, failed: Iterable[FailedDownload]) -> None:
    """Put a list in the place of another; an empty list is no file."""
    failed = list(failed)
    if not failed:
        file.unlink(missing_ok=True)
        return
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as f:
        csv.writer(f, "excel-tab").writerow(_HEADER)
        _write(f, failed)


def _write(lines, failed: Iterable[FailedDownload]) -> None:
    words = {value: word for word, value in _FOR_GOOD.items()}
    csv.writer(lines, "excel-tab").writerows((item_id, url, words[good], why) for item_id, url, good, why in failed)
