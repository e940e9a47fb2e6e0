"""``python -m recbole_perpeft recommend``: lists of items from a checkpoint."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from recbole_perpeft.config.settings import settings_of
from recbole_perpeft.serving.list_file import check_list_file, write_lists
from recbole_perpeft.serving.list_options import ListOptions
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.utils.errors import RequestError

DESCRIPTION = """Recommend items to users, by what a run has trained.

  python -m recbole_perpeft recommend saved/MODEL.pth --users U1 U2 --columns title
  python -m recbole_perpeft recommend saved/MODEL.pth --history I1 I2 I3
  python -m recbole_perpeft recommend saved/MODEL.pth --out lists.csv --k 20

Without --users and --history, lists for all users are written to --out. All purchases in the data are known, the
newest included, and what a user has bought is not recommended again unless --seen is given. Settings that have changed
since the training, such as a moved data_path, are given as --key=value."""


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = _parser()
    known, words = parser.parse_known_args(arguments)
    if known.users and known.history:
        raise RequestError("--users and --history: give one of them.")
    if not (known.users or known.history or known.out):
        raise RequestError("--out: lists for all users are written to a file: name it, or give --users or --history.")
    if known.out:
        check_list_file(known.out)
    options = {
        "k": known.k,
        "seen": known.seen,
        "allow": known.allow and _ids_in(known.allow, "--allow"),
        "deny": known.deny and _ids_in(known.deny, "--deny"),
        "where": _wanted(known.where),
        "columns": known.columns,
        "group": known.group,
    }
    ListOptions(**options)  # what is wrong by itself is said before the model is loaded
    recommender = Recommender.load(known.file, settings_of(words), known.before_test, known.new_data)
    if known.new_items:
        print(f"{len(recommender.add_items(known.new_items)):,} new items of {known.new_items}")
    if known.index is not None:
        print(recommender.use_index(known.index, known.k))
    if known.history:
        blocks = [recommender.recommend_new([known.history], **options)]
    else:
        users = known.users or None
        number = len(users or recommender.users)
        blocks = _with_bar(recommender.blocks(users, **options), number, known.k)
    if known.out:
        rows = write_lists(blocks, known.out)
        print(f"Written: {known.out}, {rows // known.k:,} lists of {known.k} items")
    else:
        with pd.option_context("display.max_rows", None, "display.max_columns", None, "display.width", None):
            print(pd.concat(blocks, ignore_index=True).to_string(index=False))
    return 0


def _with_bar(blocks, users: int, k: int):
    with tqdm(total=users, desc="Recommend", unit=" users", ncols=100, disable=users < 1000) as bar:
        for block in blocks:
            yield block
            bar.update(len(block) // k)


def _ids_in(file: Path, option: str) -> list[str]:
    """Item ids, one a line."""
    try:
        return [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{option}: {file} cannot be read: {error}") from error


def _wanted(words: Sequence[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for word in words:
        column, equals, value = word.partition("=")
        if not equals:
            raise RequestError(f"--where: {word!r} has no value: write COLUMN=VALUE.")
        wanted.setdefault(column, []).append(value)
    return wanted


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft recommend", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("file", type=Path, help="a checkpoint, of a PerPEFT model or one of RecBole's")
    parser.add_argument("--users", nargs="+", metavar="USER", help="ids of users in the data")
    parser.add_argument("--history", nargs="+", metavar="ITEM", help="what a new user bought, oldest first")
    parser.add_argument("--k", type=int, default=10, help="items for each user (default: 10)")
    parser.add_argument("--out", type=Path, help="a .csv or .parquet file; without it lists are printed")
    parser.add_argument("--columns", nargs="+", default=[], metavar="COLUMN", help="of the .item file, such as title")
    parser.add_argument("--group", action="store_true", help="tell each user's group")
    parser.add_argument("--seen", action="store_true", help="recommend what a user has bought already, too")
    parser.add_argument("--allow", type=Path, metavar="FILE", help="item ids, one a line: no others")
    parser.add_argument("--deny", type=Path, metavar="FILE", help="item ids, one a line: none of these")
    parser.add_argument("--where", nargs="+", default=[], metavar="COLUMN=VALUE", help="values that items must have")
    parser.add_argument("--index", type=int, nargs="?", const=256, metavar="CANDIDATES",
                        help="look among so many near items (256), by faiss; for huge catalogues")  # fmt: skip
    parser.add_argument("--new_data", action="store_true", help="the data are others than those of the checkpoint")
    parser.add_argument("--new_items", type=Path, metavar="FILE", help=".item file of items to take first")
    parser.add_argument("--before_test", action="store_true", help="users are known as they were in the test")
    return parser
