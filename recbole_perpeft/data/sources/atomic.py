"""Writing a data set's folder: each file whole, or as it was before."""

import csv
import errno
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import TextIO

import numpy as np
import yaml

from recbole_perpeft.content.picture_files import find_by_item_id
from recbole_perpeft.data.sources.ids import unusable
from recbole_perpeft.data.sources.purchases import Purchases
from recbole_perpeft.utils.errors import DataError
from recbole_perpeft.utils.files import replacing

_COLUMN = re.compile(r"[^:\s\"']([^:\t\n\r\"]*[^:\s\"])?")
_BLOCK = 100_000  # lines written together
_SHOWN = 5
_BLANKS = re.compile(r"[\s\0]+")
# Between words they say no more than a blank, and readers of atomic files differ in what they make of them.
_BREAKS = frozenset("\t\n\r\0")
_SURROGATES = re.compile("[\ud800-\udfff]")
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
URLS, IMAGES = ".urls.tsv", "images"


def make_folder(out: Path, name: str) -> Path:
    """The data set's folder ``<out>/<name>``.

    Raises
    ------
    DataError
        If the name is none, or the folder cannot be made.
    """
    if not name or name in (".", "..") or re.search(r"[/\\\s]", name):
        raise DataError(f"--name: {name!r} is no name of a data set: write one without blanks and slashes.")
    folder = Path(out) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out: {folder} cannot be made: {error}. Choose another folder.") from error
    return folder


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cure = "Make room on the disk" if error.errno in _FULL else "Choose another folder with --out"
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}. {cure}, and give the same command again; "
            "other files of the data set stay as they are."
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A file to write, which is in the place of ``path`` when it is whole.

    Raises
    ------
    DataError
        If it cannot be written; what was there before stays.
    """
    with (
        _reported(path),
        replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        yield file


def whole_copy(source: Path, path: Path) -> None:
    """Copy a file, which is in the place of ``path`` when it is whole; errors are those of :func:`whole_file`."""
    with _reported(path), replacing(path) as temporary:
        shutil.copyfile(source, temporary)
    getLogger().info(f"Written: {path}")


def clean(text: str) -> str:
    """``text`` as atomic files hold it: a tab, line break or NUL is a blank, half a character is U+FFFD."""
    if not text.isprintable():
        text = _BLANKS.sub(lambda run: run[0] if _BREAKS.isdisjoint(run[0]) else " ", text)
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def write_purchases(folder: Path, purchases: Purchases, part: str = "") -> None:
    """Write ``<name>.inter``, or ``<name>.<part>.inter``, in the folder of the name."""
    path = folder / f"{folder.name}{part and '.' + part}.inter"
    columns = list(purchases.values)
    header = ["user_id:token", "item_id:token", *(f"{name}:float" for name in columns)]
    line = "\t".join(["%s"] * len(header)) + "\n"
    users, items = (np.array(ids, dtype=object) for ids in (purchases.users, purchases.items))
    with whole_file(path) as file:
        file.write("\t".join(header) + "\n")
        for start in range(0, len(purchases), _BLOCK):
            rows = slice(start, start + _BLOCK)
            values = (purchases.values[name][rows].tolist() for name in columns)
            block = zip(users[purchases.user[rows]], items[purchases.item[rows]], *values, strict=True)
            file.write("".join(map(line.__mod__, block)))
    getLogger().info(f"Written: {path}, {len(purchases):,} purchases")


def bought_items(folder: Path) -> set[str]:
    """Ids of the items that were bought, in what :func:`write_purchases` wrote."""
    with open(folder / f"{folder.name}.inter", encoding="utf-8", newline="\n") as file:
        next(file)
        return {line.rstrip("\n").split("\t", 2)[1] for line in file}


def write_items(folder: Path, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> int:
    """Write ``<name>.item`` of item ids and their texts; gives the number of items.

    A field is in quotation marks only where it holds one, as CSV writers do and as readers of atomic files expect.
    Items whose ids atomic files cannot hold are left out.
    """
    for name in columns:
        if columns.count(name) > 1 or name == "item_id" or not _COLUMN.fullmatch(name):
            raise DataError(
                f"The column {name!r} cannot stand in an atomic file: each has another name, without colons, quotation "
                "marks and tabs, and 'item_id' is of the ids. Rename it."
            )
    path, number, bad = folder / f"{folder.name}.item", 0, []
    with whole_file(path) as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["item_id:token", *(f"{name}:token_seq" for name in columns)])
        for item, texts in rows:
            if unusable([item]):
                bad.append(item)
                continue
            writer.writerow([item, *map(clean, texts)])
            number += 1
    if bad:
        shown = ", ".join(map(repr, bad[:_SHOWN]))
        getLogger().warning(
            f"{len(bad):,} items whose ids cannot stand in atomic files are left out of {path}: {shown}"
        )
    getLogger().info(f"Written: {path}, {number:,} items")
    return number


def write_urls(folder: Path, urls: Mapping[str, Sequence[str]]) -> None:
    """Write ``<name>.urls.tsv``: an item id and the addresses of its picture, the best first, on a line."""
    path = folder / f"{folder.name}{URLS}"
    with whole_file(path) as file:
        file.writelines("\t".join([item, *addresses]) + "\n" for item, addresses in urls.items())
    getLogger().info(f"Written: {path}, addresses of {len(urls):,} pictures")


def read_urls(folder: Path) -> dict[str, list[str]]:
    """What :func:`write_urls` wrote.

    Raises
    ------
    DataError
        If it is not there, or not such a file.
    """
    path = folder / f"{folder.name}{URLS}"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}. It is written by prepare, beside the data set.") from error
    urls = {}
    for number, line in enumerate(lines, 1):
        item, *addresses = line.split("\t")
        if not line:
            continue
        if not addresses:
            raise DataError(f"{path}, line {number}: {line[:60]!r} has no address: write ITEM, a tab and its address.")
        urls[item] = addresses
    return urls


def write_settings(folder: Path, settings: Mapping[str, object], source: str) -> Path:
    """Write ``<name>.yaml``, the settings with which the data set is run; gives its path."""
    path = folder / f"{folder.name}.yaml"
    whole = {"dataset": folder.name, "data_path": str(folder.parent.resolve()), **settings}
    with whole_file(path) as file:
        file.write(f"# Written by recbole_perpeft prepare {source}; for --config_files={path}\n")
        yaml.safe_dump(whole, file, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    return path


def linked_pictures(folder: Path, pictures: Path) -> None:
    """Let ``<folder>/images`` lead to ``pictures``, which are not copied.

    Raises
    ------
    DataError
        If there is no such folder, or a folder of pictures is there already.
    """
    link, target = folder / IMAGES, pictures.resolve()
    if not target.is_dir():
        raise DataError(f"{pictures} is no folder: give the one with the pictures.")
    if link.is_symlink():
        link.unlink()
    elif link.resolve() == target:
        return
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError as error:
        raise DataError(
            f"{link} cannot lead to {target}: {error}. Move it away, or copy the pictures there."
        ) from error


def neutral_if_missing(folder: Path, items: Sequence[str]) -> dict[str, str]:
    """The setting ``missing_content`` where not every item has a picture in ``<folder>/images``."""
    missing = [item for item, path in zip(items, find_by_item_id(items, folder, IMAGES), strict=True) if path is None]
    if not missing:
        return {}
    getLogger().warning(f"{len(missing):,} of {len(items):,} items have no picture, such as {missing[0]!r}.")
    return {"missing_content": "neutral"}
