"""The pictures that cannot be used: all of them in a file, and the first few in a message."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FILE_NAME = "unusable_pictures.tsv"
_SHOWN = 5


class UnusablePicture(NamedTuple):
    """A picture that cannot be used, and why."""

    item_id: str
    path: str
    reason: str


def add_to_list(file: Path, pictures: Sequence[UnusablePicture]) -> None:
    """Append pictures to a list, one a line: item id, file and reason, with tabs between."""
    if pictures:
        with file.open("a", encoding="utf-8", errors="surrogateescape") as lines:
            lines.writelines("\t".join(re.sub(r"\s+", " ", field) for field in picture) + "\n" for picture in pictures)


def read_list(file: Path) -> list[UnusablePicture]:
    """Read a list, each item once (an interrupted run may have listed some twice); empty where there is no file."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    pictures = (UnusablePicture(*line.split("\t")) for line in lines if line.count("\t") == 2)
    return list({picture.item_id: picture for picture in pictures}.values())


def report(pictures: Sequence[UnusablePicture], total: int, listed_in: Path | None = None) -> str:
    """Say which of ``total`` pictures cannot be used, the first few with the reason, and where all are listed."""
    lines = [f"  item {item_id!r}: {path}: {reason}" for item_id, path, reason in pictures[:_SHOWN]]
    if len(pictures) > _SHOWN:
        lines.append(f"  and {len(pictures) - _SHOWN} more")
    if listed_in is not None:
        lines.append(f"All of them are listed in {listed_in}.")
    return "\n".join([f"{len(pictures)} of {total} pictures cannot be used:", *lines])
