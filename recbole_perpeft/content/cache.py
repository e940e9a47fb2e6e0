"""The folder of all stores: where it is, what it holds, and what of it is removed."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from recbole_perpeft.content.unusable_pictures import FILE_NAME
from recbole_perpeft.content.uses import data_sets, in_use, last_use
from recbole_perpeft.utils.errors import ContentError

PLACE_VARIABLE = "RECBOLE_PERPEFT_CACHE"
KINDS = {"pixels": "pixels", "texts": "tokens", "states": "states"}
_KEY = "[0-9a-f]{24}"
_STORE = re.compile(rf"({'|'.join(KINDS)})-{_KEY}(\.partial|\.removed)?")
# what stands beside the stores: their locks, notes of files' hashes, lists of pictures that cannot be used
_BESIDE = re.compile(rf".*-{_KEY}\.lock|hashes-{_KEY}\.json(\..*)?|pixels-{_KEY}-{re.escape(FILE_NAME)}")
_DAY, _GB = 24 * 60 * 60, 10**9


@dataclass(frozen=True)
class Store:
    """A store as it lies in the cache.

    Attributes
    ----------
    folder : pathlib.Path
        Where it lies.
    kind : str
        ``pixels``, ``tokens`` or ``states``; ``unfinished`` of a run that was killed, or is at it.
    data_sets : list of str
        What it was used for; none of a store of a former version.
    size : int
        Bytes.
    last_use : float
        In seconds since 1970.
    """

    folder: Path
    kind: str
    data_sets: list[str]
    size: int
    last_use: float


def cache_folder(content_cache: str | None) -> Path:
    """The folder that the setting names; for ``~`` that of the user, wherever a run starts.

    This is ``$RECBOLE_PERPEFT_CACHE``, else ``$XDG_CACHE_HOME/recbole_perpeft``, else ``~/.cache/recbole_perpeft``.

    Raises
    ------
    ContentError
        If the user has no home.
    """
    if content_cache:
        return Path(content_cache)
    if place := os.environ.get(PLACE_VARIABLE):
        return Path(place).expanduser()
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise ContentError(
            f"content_cache: ~ needs a home ({error}): set it, or {PLACE_VARIABLE}, to a folder."
        ) from error
    return Path(home) / "recbole_perpeft"


def stores(cache: Path) -> list[Store]:
    """What a cache holds, the last used first; nothing, if there is no such folder.

    Raises
    ------
    ContentError
        If the folder holds anything that is not of a cache, or cannot be read.
    """
    if not cache.exists():
        return []
    try:
        entries = sorted(cache.iterdir())
        _refuse_foreign(cache, entries)
        found = [_store(entry) for entry in entries if _STORE.fullmatch(entry.name)]
    except OSError as error:
        raise ContentError(f"content_cache: {cache} cannot be read ({error}): name the folder of a cache.") from error
    return sorted((store for store in found if store), key=lambda store: -store.last_use)


def size_of(cache: Path) -> int:
    """Bytes of all files in a cache."""
    return _size(cache)


def older_than(days: float) -> Callable[[list[Store]], list[Store]]:
    """Chooses stores that were not used for ``days``."""
    return lambda found: [store for store in found if store.last_use < time.time() - days * _DAY]


def beyond(gigabytes: float) -> Callable[[list[Store]], list[Store]]:
    """Chooses the stores used longest ago, so that the others are ``gigabytes`` (10^9 bytes) at most."""

    def choose(found: list[Store]) -> list[Store]:
        left, chosen = sum(store.size for store in found), []
        for store in reversed(found):
            if left <= gigabytes * _GB:
                break
            chosen.append(store)
            left -= store.size
        return chosen

    return choose


def remove(store: Store, dry_run: bool = False) -> bool:
    """Remove a store, unless a process uses it or makes it; tells whether it is (or would be) gone.

    It gets another name before its files go: a store that is there under its own name is whole at any time.
    """
    folder = store.folder
    try:
        with FileLock(_lock_of(folder), timeout=0):
            if in_use(folder):
                return False
            if dry_run:
                return True
            gone = folder.with_name(f"{folder.name.split('.')[0]}.removed")
            if gone != folder:
                shutil.rmtree(gone, ignore_errors=True)  # of a removal that was killed
                with suppress(FileNotFoundError):  # somebody else removed it
                    folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
    except Timeout:
        return False
    except OSError as error:
        raise ContentError(f"{folder} cannot be removed ({error}): see who may write there.") from error
    return True


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name.split(".")[0] + ".lock")


def _refuse_foreign(cache: Path, entries: list[Path]) -> None:
    for entry in entries:
        if not (_STORE if entry.is_dir() else _BESIDE).fullmatch(entry.name):
            raise ContentError(
                f"content_cache: {cache} is no cache of item content, for it holds {entry.name}: nothing was removed. "
                "Name the folder of a cache."
            )


def _store(folder: Path) -> Store | None:
    kind = KINDS[folder.name.partition("-")[0]] if not folder.suffix else "unfinished"
    with suppress(FileNotFoundError):  # it may be renamed or removed meanwhile
        return Store(folder, kind, data_sets(folder), _size(folder), last_use(folder))
    return None


def _size(folder: Path) -> int:
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for root, _, files in os.walk(folder):
        for file in files:
            with suppress(FileNotFoundError):
                yield os.stat(os.path.join(root, file)).st_size
