"""``python -m recbole_perpeft cache``: what the content cache holds, and pruning it."""

import argparse
import time
from collections.abc import Callable, Sequence

from recbole_perpeft.content.cache import Store, beyond, cache_folder, older_than, remove, size_of, stores

DESCRIPTION = """List what the content cache holds (pixels, tokens and states of items, made once for all runs), or
remove some of it. What is removed is made again when a run needs it.

  python -m recbole_perpeft cache
  python -m recbole_perpeft cache --prune --older_than 30
  python -m recbole_perpeft cache --prune --max_size 20 --dry_run
  python -m recbole_perpeft cache --prune --all

What a running process uses stays. The cache is $RECBOLE_PERPEFT_CACHE, else recbole_perpeft in $XDG_CACHE_HOME or
~/.cache; one that runs were given by content_cache is named here in the same way."""


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = _parser()
    known = parser.parse_args(arguments)
    choose = _choice(known)
    if known.prune != (choose is not None):
        parser.error("--prune needs one of --older_than, --max_size and --all, and they need --prune.")
    cache = cache_folder(known.content_cache)
    found = stores(cache)
    print(f"{cache}: {len(found)} stores, {size_of(cache) / 1e9:.3f} GB")
    if choose is None:
        _show(found)
        return 0
    removed, kept = [], []
    for store in choose(found):
        (removed if remove(store, known.dry_run) else kept).append(store)
    for stores_, said in ((removed, "Would be removed" if known.dry_run else "Removed"), (kept, "Kept, in use")):
        if stores_:
            print(f"{said}: {len(stores_)} stores, {sum(store.size for store in stores_) / 1e9:.3f} GB")
            _show(stores_)
    if not (removed or kept):
        print("There is nothing to remove.")
    return 0


def _choice(known: argparse.Namespace) -> Callable[[list[Store]], list[Store]] | None:
    if known.older_than is not None:
        return older_than(known.older_than)
    if known.max_size is not None:
        return beyond(known.max_size)
    return (lambda found: found) if known.all else None


def _show(found: list[Store]) -> None:
    rows = [("data set", "kind", "GB", "last use", "store")]
    for store in found:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(store.last_use))
        names = ", ".join(store.data_sets) or "-"
        rows.append((names, store.kind, f"{store.size / 1e9:.3f}", day, store.folder.name))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if found else ():
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _number(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft cache", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--content_cache", metavar="FOLDER", help="a cache elsewhere")
    parser.add_argument("--prune", action="store_true", help="remove what one of the next three chooses")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--older_than", type=_number, metavar="DAYS", help="what was not used for so long")
    which.add_argument("--max_size", type=_number, metavar="GB", help="what was used longest ago, down to this size")
    which.add_argument("--all", action="store_true", help="everything")
    parser.add_argument("--dry_run", action="store_true", help="say what would be removed, and remove nothing")
    return parser
