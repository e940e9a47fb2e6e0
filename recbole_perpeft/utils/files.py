"""Files of runs that may begin in the same second."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path


def reserve(file: str | Path) -> Path:
    """``file``, created empty, or a name beside it where another run, that began in the same second, has it already."""
    file = Path(file)
    with suppress(OSError):  # of which the write that follows reports, as of all that is no name in use
        file.parent.mkdir(parents=True, exist_ok=True)
    for name in chain([file], (file.with_name(f"{file.stem}-{number}{file.suffix}") for number in count(2))):
        try:
            name.touch(exist_ok=False)
        except FileExistsError:
            continue
        except OSError:
            pass
        return name


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a name beside ``file`` to write under; what is there at the end takes its place, and nothing if that fails.

    A reader sees the old file or the new one, never a part.
    """
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        with suppress(OSError):  # it may be gone, or have had no place to be in
            temporary.unlink()


def listed_files(words: str | None) -> list[str]:
    """The files that ``words`` name, separated by blanks, or the one whose name has blanks."""
    return [words] if words and Path(words).is_file() else (words or "").split()


def remove_empty(file: str | Path) -> None:
    """Give back a name from :func:`reserve` under which nothing was written."""
    with suppress(OSError):
        if not Path(file).stat().st_size:
            Path(file).unlink()
