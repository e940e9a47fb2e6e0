"""Hashes of files' bytes: a file that was overwritten in place is another, one that was copied is the same."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from recbole_perpeft.content.store import digest
from recbole_perpeft.utils.cores import n_cores

_SETTLED = 2 * 10**9  # nanoseconds: a file written within the same tick of the clock would look as before


def hash_files(paths: Sequence[Path | None], notes: Path | None = None) -> list[str | None]:
    """A hash of each file's bytes, by threads; None for None.

    What cannot be read has the reason in place of a hash: whoever opens the file reports it.

    Parameters
    ----------
    paths
        The files.
    notes
        A folder where hashes are noted, so that a file is read again only if it was written since. Its size and time
        do not tell that, for a copy can bring both along; the time at which the file system saw its last change does.
    """
    noted, file = {}, None
    if notes is not None:
        file = notes / f"hashes-{digest(sorted({str(path.parent.absolute()) for path in paths if path}))}.json"
        with suppress(OSError, ValueError):
            noted = json.loads(file.read_text())
    stamps = [path and _stamp(path) for path in paths]
    known = [stamp and noted.get(stamp) for stamp in stamps]
    new = [place for place, path in enumerate(paths) if path and not known[place]]
    with ThreadPoolExecutor(n_cores()) as pool:
        for place, hashed in zip(new, pool.map(_hash_file, (paths[place] for place in new)), strict=True):
            known[place] = hashed
    if file and new:
        _note(file, {stamp: hashed for stamp, hashed in zip(stamps, known, strict=True) if stamp})
    return known


def _stamp(path: Path) -> str | None:
    """Changes whenever a file is written; None as long as its last change is too near to tell."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    if time.time_ns() - stat.st_ctime_ns < _SETTLED:
        return None
    return f"{path.name} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_dev} {stat.st_ino}"


def _note(file: Path, hashes: dict[str, str]) -> None:
    with suppress(OSError):  # a cache that cannot be written is reported when the content is made
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(hashes))
        partial.replace(file)


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"
