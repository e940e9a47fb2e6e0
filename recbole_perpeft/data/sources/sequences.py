"""Purchases as a line a user and titles as a line an item, as public preparations of Amazon reviews have them."""

import argparse
from collections import Counter
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

from recbole_perpeft.data.sources.atomic import write_items, write_purchases, write_settings
from recbole_perpeft.data.sources.purchases import PurchaseCollector, Purchases, filtered
from recbole_perpeft.data.sources.source import K_CORE, OUT, Argument, Source, in_out, name_of
from recbole_perpeft.utils.errors import DataError

USERS, ITEMS = "users.tsv", "items.tsv"


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """Write the data set into ``folder``; gives its file of settings.

    There are no dates: a purchase's timestamp is its place among the user's, line after line. Repeats stay
    in the file, for ``rm_dup_inter`` decides about them.

    Raises
    ------
    DataError
        Names the file and the line that is not as it should be.
    """
    users = options.folder / USERS
    purchases = filtered(_purchases(users), users, options.k_core, repeats=True)
    write_purchases(folder, purchases)
    titles = dict(_pairs(options.folder / ITEMS))
    write_items(folder, ["title"], ((item, [title]) for item, title in titles.items()))
    settings, bought = {"modalities": ["text"], "text_fields": ["title"]}, purchases.bought()
    if untitled := [item for item in bought if not titles.get(item, "").strip()]:
        getLogger().warning(f"{len(untitled):,} of {len(bought):,} items have no title, such as {untitled[0]!r}.")
        settings["missing_content"] = "neutral"
    return write_settings(folder, settings, NAME)


def _purchases(path: Path) -> Purchases:
    taken, next_place = PurchaseCollector({"timestamp": "int64"}), Counter()
    for user, line in _pairs(path):
        items, start = line.split(), next_place[user]  # a user's further lines go on where the one before ended
        next_place[user] += len(items)
        taken.add([user] * len(items), items, timestamp=range(start, next_place[user]))
    return taken.purchases()


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """The two columns of a file without a header."""
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                first, tab, second = line.rstrip("\r\n").partition("\t")
                if not tab:
                    raise DataError(f"{path}, line {number}: {first[:60]!r} has no tab: two columns are expected.")
                yield first, second
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


NAME = "sequences"
SOURCE = Source(
    NAME,
    "a line a user and a line an item",
    f"`{USERS}` (user, tab, item ids, oldest first, separated by blanks) and `{ITEMS}` (item id, tab, title), without "
    "headers",
    (Argument("FOLDER", "folder of the two files", {"type": Path}), OUT, name_of("the folder's name"), K_CORE),
    in_out(lambda options: options.folder.resolve().name),
    prepare,
)
