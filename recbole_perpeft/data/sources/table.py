"""Purchases, and perhaps items, as tables of any shop: CSV, TSV or Parquet, the columns named on the command line."""

import argparse
import os
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

import pandas as pd

from recbole_perpeft.data.sources.atomic import (
    IMAGES,
    linked_pictures,
    make_folder,
    neutral_if_missing,
    write_items,
    write_purchases,
    write_settings,
    write_urls,
)
from recbole_perpeft.data.sources.fetching import fetch_pictures
from recbole_perpeft.data.sources.purchases import PurchaseCollector, Purchases, filtered
from recbole_perpeft.data.sources.source import K_CORE, MIN_RATING, OUT, PICTURES, Argument, Source, name_of
from recbole_perpeft.data.sources.tables import numbers, read_table, seconds, texts
from recbole_perpeft.utils.errors import DataError, SettingError

_OF_ITEMS = ("columns", "item_id", "image_paths", "image_urls")


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """Write the data set into ``folder``; gives its file of settings.

    Repeats stay in the file, for ``rm_dup_inter`` decides about them.

    Raises
    ------
    DataError
        If a file cannot be read, lacks a column, or has a value that is no number or date; names the row.
    """
    purchases = filtered(_purchases(options), options.interactions, options.k_core, repeats=True)
    write_purchases(folder, purchases)
    settings: dict[str, object] = {}
    if options.image_dir:
        linked_pictures(folder, options.image_dir)
        if not options.image_paths:
            settings |= {"image_dir": IMAGES, **neutral_if_missing(folder, purchases.bought())}
    if options.items:
        settings |= _write_items(options, folder, set(purchases.bought()))
    seen = [kind for kind, there in (("image", options.image_dir), ("text", options.columns)) if there]
    if not seen and options.image_urls:
        seen = ["image"]  # when they are downloaded
    if len(seen) == 1:
        settings["modalities"] = seen
    timed = "timestamp" in purchases.values
    if not timed:
        settings["eval_args"] = {"order": "RO"}
    if not (seen and timed):
        settings["model"] = ("PerPEFTLightGCN" if seen else "LightGCN") if not timed else "SASRec"
    settings_file = write_settings(folder, settings, NAME)
    return fetch_pictures(folder) if options.pictures else settings_file


def _check(options: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    given = [f"--{name}" for name in _OF_ITEMS if getattr(options, name)]
    if given and not options.items:
        raise SettingError(f"{given[0]} names a column of ITEMS: give that file too.")
    if options.items and not (options.columns or options.image_paths or options.image_urls):
        raise SettingError("ITEMS is given, and nothing of it asked for: name its texts with --columns.")
    if options.image_paths and not options.image_dir:
        raise SettingError("--image_paths: tell with --image_dir which folder the paths begin in.")
    if options.pictures and not options.image_urls:
        raise SettingError("--pictures: tell with --image_urls which column has the addresses.")
    if options.min_rating is not None and not options.rating:
        raise SettingError("--min_rating: tell with --rating which column has the ratings.")


def _purchases(options: argparse.Namespace) -> Purchases:
    named = {"user": options.user, "item": options.item, "time": options.time, "rating": options.rating}
    rows = read_table(options.interactions, list(dict.fromkeys(filter(None, named.values()))))
    values = {}
    if options.time:
        values["timestamp"] = seconds(options.interactions, rows[options.time])
    if options.rating:
        values["rating"] = numbers(options.interactions, rows[options.rating], "--rating")
    taken = PurchaseCollector({name: column.dtype.type for name, column in values.items()})
    taken.add(texts(rows[options.user]), texts(rows[options.item]), **values)
    purchases = taken.purchases()
    return purchases if options.min_rating is None else purchases.take(purchases.values["rating"] >= options.min_rating)


def _write_items(options: argparse.Namespace, folder: Path, bought: set[str]) -> dict[str, object]:
    """Write the items that were ``bought``; gives what the settings have to say of them."""
    key, paths, addresses = options.item_id or options.item, options.image_paths, options.image_urls
    rows = read_table(options.items, list(dict.fromkeys(filter(None, [key, *options.columns, paths, addresses]))))
    rows[key] = texts(rows[key])
    rows = rows[rows[key].isin(bought)].drop_duplicates(key)
    found = list(_texts_of(rows, key, options))
    write_items(folder, [*options.columns, *([_PATH] if paths else [])], found)
    if missing := len(bought) - len(rows):
        getLogger().warning(f"{missing:,} of {len(bought):,} items that were bought are not in {options.items}.")
    if addresses:
        urls = zip(rows[key], texts(rows[addresses]), strict=True)
        write_urls(folder, {item: [url] for item, url in urls if url and not any(map(str.isspace, url))})
    of_text = len(options.columns)
    blank = sum(bool(of_text) and not any(map(str.strip, row[:of_text])) for _, row in found)
    blank += sum(not (folder / path).is_file() for _, row in found for path in row[of_text:])
    if blank:
        getLogger().warning(
            f"{blank:,} texts or pictures of {len(found):,} items are empty in {options.items}, or are no files."
        )
    settings: dict[str, object] = {"text_fields": list(options.columns)} if of_text else {}
    if paths:
        settings["image_field"] = _PATH
    if missing or blank:
        settings["missing_content"] = "neutral"
    return settings


def _texts_of(rows: pd.DataFrame, key: str, options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    columns = [texts(rows[column]) for column in options.columns]
    if options.image_paths:
        columns.append([_within(options.image_dir, path) for path in texts(rows[options.image_paths])])
    return ((item, list(values)) for item, *values in zip(rows[key], *columns, strict=True))


def _within(folder: Path, path: str) -> str:
    """A picture's path as seen from the data set's folder, in which ``images`` leads to ``folder``."""
    inner = os.path.relpath(path, folder) if os.path.isabs(path) else os.path.normpath(path) if path else ""
    if inner.split(os.sep)[0] == "..":
        raise DataError(f"--image_paths: {path!r} lies outside of --image_dir {folder}: give a folder that holds all.")
    return f"{IMAGES}/{inner}" if inner else ""


def _folder(options: argparse.Namespace) -> Path:
    _check(options)
    return make_folder(options.out, options.name or options.interactions.name.partition(".")[0])


_PATH = "image"
NAME = "table"
SOURCE = Source(
    NAME,
    "tables of purchases and items",
    "CSV, TSV (packed by gzip or not) or Parquet files with a header",
    (
        Argument("INTERACTIONS", "table of purchases", {"type": Path}),
        Argument("ITEMS", "table of items", {"type": Path, "nargs": "?"}),
        OUT,
        name_of("the file's name up to its first dot"),
        Argument("--user", "column of users", {"required": True, "metavar": "COLUMN"}),
        Argument("--item", "column of items", {"required": True, "metavar": "COLUMN"}),
        Argument("--time", "column of times: numbers, or dates, which become seconds", {"metavar": "COLUMN"}),
        Argument("--rating", "column of ratings", {"metavar": "COLUMN"}),
        Argument("--item_id", "column of ids in ITEMS (default: as --item)", {"metavar": "COLUMN"}),
        Argument("--columns", "columns of ITEMS that hold text", {"nargs": "+", "default": [], "metavar": "COLUMN"}),
        Argument("--image_dir", "folder of the pictures, which is linked to: `<item id>.jpg` or as --image_paths says",
                 {"type": Path}),
        Argument("--image_paths", "column of ITEMS with a picture's path in --image_dir", {"metavar": "COLUMN"}),
        Argument("--image_urls", "column of ITEMS with a picture's address", {"metavar": "COLUMN"}),
        MIN_RATING,
        K_CORE,
        PICTURES,
    ),
    _folder,
    prepare,
)  # fmt: skip
