"""``python -m recbole_perpeft explain``: what the groups of a trained model look at, as a report."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.config.settings import settings_of
from recbole_perpeft.explain.report import explain

DESCRIPTION = """Write a report of what a run has trained: a page that opens offline, and its figures as PNG.

  python -m recbole_perpeft explain saved/MODEL.pth --out explained
  python -m recbole_perpeft explain saved/MODEL.pth --out explained --item I1 I2 --user U1

It shows what sets the groups of users apart, items through the eyes of each group, what each module would recommend,
and how far modules moved from the global one. Settings that have changed since the training, such as a moved data_path,
are given as --key=value."""


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    known, words = _parser().parse_known_args(arguments)
    settings = {"show_progress": False, **settings_of(words)}
    file = explain(known.checkpoint, known.out, settings, known.item, known.user, lambda part: print(f"... {part}"))
    print(f"Written: {file}, {file.stat().st_size:,} bytes")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft explain", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("checkpoint", type=Path, help="of a PerPEFT model or one of RecBole's; or a bundle")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets report.html and figures/")
    parser.add_argument("--item", nargs="+", default=[], metavar="ITEM", help="ids of items to show")
    parser.add_argument("--user", nargs="+", default=[], metavar="USER", help="ids of users to show")
    return parser
