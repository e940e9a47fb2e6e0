"""The data sets of PerPEFT's authors, in the layout of their public code (github.com/kswoo97/PerPEFT).

``<name>_final.txt`` has a purchase a line, user and item as numbers from 1, each user's oldest first.
``<name>_item2id_final.pickle`` is, in spite of its name, a dictionary from an item's number to its id;
``<name>_texts_final.pickle`` one from the id to the title. ``<name>_images/<id>.jpg`` are the pictures.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from logging import getLogger
from pathlib import Path

from recbole_perpeft.data.sources.atomic import (
    IMAGES,
    linked_pictures,
    neutral_if_missing,
    write_items,
    write_purchases,
    write_settings,
)
from recbole_perpeft.data.sources.plain_pickle import read_plain_pickle
from recbole_perpeft.data.sources.purchases import PurchaseCollector, Purchases, filtered
from recbole_perpeft.data.sources.source import OUT, Argument, Source, in_out, name_of
from recbole_perpeft.utils.errors import DataError


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """Write the data set into ``folder``; gives its file of settings.

    Purchases and their order are the authors', repeats included. A title that is not there is the words that their
    code takes for it.

    Raises
    ------
    DataError
        Names the file, and the line or entry, that is not as it should be.
    """
    source = options.folder
    purchases = filtered(_purchases(source, options.dataset), f"{options.dataset}_final.txt", repeats=True)
    write_purchases(folder, purchases)
    path = source / f"{options.dataset}_texts_final.pickle"
    titles = {str(item): _title(title) for item, title in _dictionary(path).items()}
    bought = purchases.bought()
    if untitled := [item for item in bought if not titles.get(item, "").strip()]:
        getLogger().warning(f"{len(untitled):,} items have no title in {path}, such as {untitled[0]!r}: {_NO_TITLE!r}")
    write_items(folder, ["title"], ((item, [titles.get(item, "").strip() or _NO_TITLE]) for item in bought))
    linked_pictures(folder, source / f"{options.dataset}_images")
    settings = {"text_fields": ["title"], "image_dir": IMAGES, **neutral_if_missing(folder, bought)}
    return write_settings(folder, settings, NAME)


def _title(found: object) -> str:
    missing = found is None or found != found  # not a number, as pandas has it
    return "" if missing else str(found)


def _purchases(source: Path, dataset: str) -> Purchases:
    path = source / f"{dataset}_item2id_final.pickle"
    ids = _dictionary(path)
    pairs = list(ids.items())
    if all(isinstance(key, str) for key in ids):  # as the file's name says
        pairs = [(number, item) for item, number in ids.items()]
    try:
        pairs = [(int(number), str(item)) for number, item in pairs]
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} has to lead from an item's number to its id: {error}.") from error
    _refuse_twice(path, pairs)
    ids = dict(pairs)
    users, items, places, next_place = [], [], [], Counter()
    for line, (user, number) in enumerate(_lines(source / f"{dataset}_final.txt"), 1):
        if number not in ids:
            raise DataError(f"{dataset}_final.txt, line {line}: item {number} is not in {path}.")
        users.append(str(user))
        items.append(ids[number])
        places.append(next_place[user])
        next_place[user] += 1
    taken = PurchaseCollector({"timestamp": "int64"})
    taken.add(users, items, timestamp=places)
    return taken.purchases()


def _refuse_twice(path: Path, pairs: Sequence[tuple[int, str]]) -> None:
    """Purchases of two items would become those of one."""
    number_of, item_of = {}, {}
    for number, item in pairs:
        if number_of.setdefault(item, number) != number:
            raise DataError(
                f"{path}: the numbers {number_of[item]} and {number} both stand for the item {item!r}. Give each item "
                "one number, here and in the purchases."
            )
        if item_of.setdefault(number, item) != item:
            raise DataError(
                f"{path}: the number {number} stands for the items {item_of[number]!r} and {item!r}. Give each item a "
                "number of its own, here and in the purchases."
            )


def _lines(path: Path) -> Iterator[tuple[int, int]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                try:
                    user, item = map(int, line.split())
                except ValueError:
                    raise DataError(f"{path}, line {number}: {line[:60]!r} is no two numbers, user and item.") from None
                yield user, item
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def _dictionary(path: Path) -> dict:
    found = read_plain_pickle(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__}, where a dictionary is expected.")
    return found


_NO_TITLE = "No description available."
NAME = "perpeft"
SOURCE = Source(
    NAME,
    "data sets of PerPEFT's authors",
    "`<dataset>_final.txt`, `<dataset>_item2id_final.pickle`, `<dataset>_texts_final.pickle` and `<dataset>_images/`, "
    "which is linked to, not copied",
    (
        Argument("FOLDER", "folder of the four", {"type": Path}),
        Argument("DATASET", "what their names begin with, such as sports_outdoors"),
        OUT,
        name_of("DATASET"),
    ),
    in_out(lambda options: options.dataset),
    prepare,
)
