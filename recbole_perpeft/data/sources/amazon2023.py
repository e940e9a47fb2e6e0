"""Amazon Reviews 2023 (Hou et al., arXiv:2403.03952): the files of a category as they are downloaded.

A purchase is a review. A product is its ``parent_asin``, which its colours and sizes share.
"""

import argparse
from collections.abc import Iterator, Sequence
from logging import getLogger
from pathlib import Path
from typing import Annotated

import msgspec

from recbole_perpeft.data.sources.atomic import (
    URLS,
    bought_items,
    write_items,
    write_purchases,
    write_settings,
    write_urls,
)
from recbole_perpeft.data.sources.fetching import fetch_pictures
from recbole_perpeft.data.sources.json_lines import records
from recbole_perpeft.data.sources.purchases import PurchaseCollector, Purchases, filtered
from recbole_perpeft.data.sources.source import K_CORE, MIN_RATING, OUT, PICTURES, Argument, Source, in_out, name_of
from recbole_perpeft.data.sources.stages import Stages

COLUMNS = ("title", "features", "description", "categories", "store")
_SIZES = ("hi_res", "large", "thumb")  # the best first


class Review(msgspec.Struct, gc=False):
    """What is read of a review; times are milliseconds since 1970."""

    user_id: str
    parent_asin: str
    rating: Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]  # Python's writer leaves NaN, which has no place here
    timestamp: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    verified_purchase: bool = False


class Picture(msgspec.Struct, gc=False):
    """A picture of a product, in three sizes."""

    variant: str | None = None
    hi_res: str | None = None
    large: str | None = None
    thumb: str | None = None


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """Write the data set into ``folder``; gives its file of settings. What was done before is not done again.

    Raises
    ------
    DataError
        If a file is damaged or of another kind, nothing is left, or the disk is full.
    """
    stages = Stages(folder)
    wanted = _write_purchases(options, folder, stages)
    facts = _write_products(options, folder, stages, wanted)
    if missing := facts["bought"] - facts["written"]:
        getLogger().warning(f"{missing:,} of {facts['bought']:,} products are not in {options.meta}.")
    if blank := facts["blank"]:
        getLogger().warning(
            f"{blank:,} products have none of {', '.join(options.columns)}, such as {facts['such as']!r}."
        )
    settings = {"text_fields": list(options.columns)}
    if missing or blank:
        settings["missing_content"] = "neutral"
    settings_file = write_settings(folder, {"modalities": ["text"], **settings}, NAME)
    return fetch_pictures(folder) if options.pictures else settings_file


def _write_purchases(options: argparse.Namespace, folder: Path, stages: Stages) -> set[str]:
    """Write the purchases, unless that is done; gives the ids of their products."""
    wanted: set[str] = set()

    def write() -> dict[str, object]:
        read = _purchases(options.reviews, options.min_rating, options.verified_only)
        purchases = filtered(read, options.reviews, options.k_core)
        write_purchases(folder, purchases)
        wanted.update(purchases.bought())
        return {}

    given = {name: getattr(options, name) for name in ("min_rating", "verified_only", "k_core")}
    stages.do("purchases", options.reviews, given, [folder / f"{folder.name}.inter"], write)
    return wanted or bought_items(folder)


def _write_products(options: argparse.Namespace, folder: Path, stages: Stages, wanted: set[str]) -> dict[str, object]:
    """Write products and addresses, unless that is done; gives what is to be said of them."""

    def write() -> dict[str, object]:
        urls: dict[str, list[str]] = {}
        blank: list[str] = []
        written = write_items(folder, options.columns, _products(options.meta, options.columns, wanted, urls, blank))
        write_urls(folder, urls)
        return {"bought": len(wanted), "written": written, "blank": len(blank), "such as": next(iter(blank), None)}

    files = [folder / f"{folder.name}.item", folder / f"{folder.name}{URLS}"]
    return stages.do("products", options.meta, {"columns": options.columns}, files, write)


def _purchases(path: Path, min_rating: float | None, verified_only: bool) -> Purchases:
    taken, read = PurchaseCollector({"timestamp": "int64", "rating": "float64"}), 0
    for rows in records(path, Review):
        read += len(rows)
        if min_rating is not None:
            rows = [row for row in rows if row.rating >= min_rating]
        if verified_only:
            rows = [row for row in rows if row.verified_purchase]
        taken.add(
            [row.user_id for row in rows],
            [row.parent_asin for row in rows],
            timestamp=[row.timestamp for row in rows],
            rating=[row.rating for row in rows],
        )
    purchases = taken.purchases()
    getLogger().info(f"{path}: {read:,} reviews, {len(purchases):,} of them as --min_rating and --verified_only ask")
    return purchases


def _products(
    path: Path, columns: Sequence[str], wanted: set[str], urls: dict[str, list[str]], blank: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """Products that are ``wanted``, each once, and their texts; fills ``urls``, and ``blank`` where text is missing."""
    fields = [("parent_asin", str), *((column, str | list[str] | None, None) for column in columns)]
    kind = msgspec.defstruct("Product", [*fields, ("images", list[Picture] | None, None)], gc=False)
    wanted = set(wanted)
    for rows in records(path, kind):
        for row in rows:
            product = row.parent_asin
            if product not in wanted:
                continue
            wanted.remove(product)
            texts = [_text(getattr(row, column)) for column in columns]
            if not any(map(str.strip, texts)):
                blank.append(product)
            if found := main_picture(row.images or ()):
                urls[product] = found
            yield product, texts


def _text(value: str | list[str] | None) -> str:
    return " ".join(value) if isinstance(value, list) else value or ""


def main_picture(pictures: Sequence[Picture]) -> list[str]:
    """Addresses of a product's main picture, the largest first; of its first where none is marked as ``MAIN``."""
    main = next((picture for picture in pictures if picture.variant == "MAIN"), pictures[0] if pictures else None)
    found = [getattr(main, size) for size in _SIZES] if main else []
    return [address for address in found if address and not any(map(str.isspace, address))]


NAME = "amazon2023"
SOURCE = Source(
    NAME,
    "Amazon Reviews 2023, the two files of a category",
    "`<Category>.jsonl[.gz]` (`user_id`, `parent_asin`, `rating`, `timestamp`, `verified_purchase`) and "
    "`meta_<Category>.jsonl[.gz]` (`parent_asin`, `images` and the columns of `--columns`)",
    (
        Argument("REVIEWS", "file of reviews, packed or not", {"type": Path}),
        Argument("META", "file of products, packed or not", {"type": Path}),
        OUT,
        name_of("the file's name up to its first dot"),
        MIN_RATING,
        Argument("--verified_only", "verified purchases only", {"action": "store_true"}),
        K_CORE,
        Argument("--columns", "what is kept of a product's text (default: title)",
                 {"nargs": "+", "choices": COLUMNS, "default": ["title"]}),
        PICTURES,
    ),
    in_out(lambda options: options.reviews.name.partition(".")[0]),
    prepare,
)  # fmt: skip
