"""What a source says of itself: the command line, the errors and the page of sources follow from it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_perpeft.data.sources.atomic import make_folder


@dataclass(frozen=True)
class Argument:
    """An argument of the command line.

    Attributes
    ----------
    name
        ``"--k_core"``, or ``"REVIEWS"`` for one that is given by its place.
    help
        What it is, with its default.
    options
        What ``argparse`` takes beside: ``type``, ``default``, ``nargs``, ``action`` ….
    """

    name: str
    help: str
    options: dict[str, Any] = field(default_factory=dict)

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Let ``parser`` know of it."""
        if self.name.startswith("--"):
            parser.add_argument(self.name, help=self.help, **self.options)
        else:
            parser.add_argument(self.name.lower(), metavar=self.name, help=self.help, **self.options)


@dataclass(frozen=True)
class Source:
    """A raw format.

    Attributes
    ----------
    name
        As it is called on the command line.
    summary
        What it is, in a line.
    reads
        The files and their columns.
    arguments
        What it takes.
    folder
        The data set's folder, from the parsed arguments; made if it is not there.
    prepare
        Writes the data set into it; gives its file of settings.
    """

    name: str
    summary: str
    reads: str
    arguments: tuple[Argument, ...]
    folder: Callable[[argparse.Namespace], Path]
    prepare: Callable[[argparse.Namespace, Path], Path]


OUT = Argument("--out", "folder that the data set's folder is made in", {"type": Path, "required": True})
PICTURES = Argument("--pictures", "download the pictures too", {"action": "store_true"})
MIN_RATING = Argument("--min_rating", "purchases rated at least so (default: all)", {"type": float})


def _from_0(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not possible: it must be a whole number from 0 up.")
    return int(text)


K_CORE = Argument("--k_core", "users and items with at least so many purchases, again and again until all have "
                  "(default: 0, all)", {"type": _from_0, "default": 0})  # fmt: skip


def in_out(called: Callable[[argparse.Namespace], str]) -> Callable[[argparse.Namespace], Path]:
    """The folder of a :class:`Source` below ``--out``, by its ``--name``, or else as it is ``called``."""
    return lambda options: make_folder(options.out, options.name or called(options))


def name_of(default: str) -> Argument:
    """The argument ``--name``, where ``default`` says what the data set is called without it."""
    return Argument("--name", f"what the data set is called (default: {default})")
