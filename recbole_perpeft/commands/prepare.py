"""``python -m recbole_perpeft prepare``: RecBole's atomic files from the data that people have."""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from recbole_perpeft.data.sources.registry import SOURCES, prepare

DESCRIPTION = """Write a data set as RecBole's atomic files, from:

{sources}

  python -m recbole_perpeft prepare amazon2023 Sports.jsonl.gz meta_Sports.jsonl.gz --out datasets --k_core 5
  python -m recbole_perpeft prepare table orders.csv products.csv --out datasets --user customer --item sku \\
      --time date --columns title

prepare SOURCE --help tells what a source reads and takes. At the end stand the settings to run the data set with, which
are also in <out>/<name>/<name>.yaml, and the next command."""


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        settings = prepare(options)
    except KeyboardInterrupt:
        print("Interrupted. What was written is whole; the same command writes the rest.", file=sys.stderr)
        return 130
    print(settings.read_text(encoding="utf-8").rstrip())
    print(f"\nNext: {_next(settings)}")
    return 0


def _next(settings: Path) -> str:
    run = f"python run_recbole_perpeft.py --config_files={quote(str(settings))}"
    folder = settings.parent
    urls = folder / f"{folder.name}.urls.tsv"
    seen = re.search("^image_(dir|field):", settings.read_text(encoding="utf-8"), re.MULTILINE)
    if urls.is_file() and urls.stat().st_size and not seen:
        return f"{run}\nOr first, for its pictures: python -m recbole_perpeft prepare pictures {quote(str(folder))}"
    return run


def parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<12} {source.summary}" for name, source in SOURCES.items())
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft prepare", description=DESCRIPTION.format(sources=listed), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE", help=", ".join(SOURCES))
    for name, source in SOURCES.items():
        reads = source.reads.replace("`", "")
        one = sources.add_parser(
            name, help=source.summary, description=f"{source.summary}. Reads {reads}.", allow_abbrev=False
        )
        for argument in source.arguments:
            argument.add_to(one)
    return parser
