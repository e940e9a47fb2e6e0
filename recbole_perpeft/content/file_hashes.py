"""Hashes of files' bytes: a file that was overwritten in place is another, one that was copied is the same."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recbole_perpeft.cores import n_cores


def hash_files(paths: Sequence[Path | None]) -> list[str | None]:
    """A hash of each file's bytes, by threads (a gigabyte takes about a second); None for None.

    Sizes and times would be read faster, but a picture can be replaced by one of the same size and time. What cannot be
    read has the reason in place of a hash: whoever opens the file reports it.
    """
    with ThreadPoolExecutor(n_cores()) as pool:
        return list(pool.map(_hash_file, paths, chunksize=64))


def _hash_file(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"
