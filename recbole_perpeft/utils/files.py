"""Files of runs that may begin in the same second, and on disks that may be full."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path

from recbole_perpeft.utils.errors import TrainingError

_TEMPORARY = re.compile(r".+\.(\d+)\.tmp")  # see replacing


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


def remove_left_behind(folder: Path) -> None:
    """Remove from ``folder`` the files that :func:`replacing` gave to processes which were killed."""
    with suppress(OSError):
        for file in list(folder.iterdir()):
            name = _TEMPORARY.fullmatch(file.name)
            if name and not _runs(int(name[1])):
                with suppress(OSError):
                    file.unlink()


def _runs(process: int) -> bool:
    if os.name == "nt":  # where the next line would end it
        return True
    try:
        os.kill(process, 0)  # which sends nothing
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # another user's, or nothing that can be told
    return True


def listed_files(words: str | None) -> list[str]:
    """The files that ``words`` name, separated by blanks, or the one whose name has blanks."""
    return [words] if words and Path(words).is_file() else (words or "").split()


def remove_empty(file: str | Path) -> None:
    """Give back a name from :func:`reserve` under which nothing was written."""
    with suppress(OSError):
        if not Path(file).stat().st_size:
            Path(file).unlink()


@contextmanager
def naming_full_disks(config) -> Iterator[None]:
    """Let an error of a full disk say what a run writes, and where.

    Raises
    ------
    TrainingError
        In its place, with its notes.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        named = TrainingError(
            f"A disk is full: {error}. The run writes log and log_tensorboard in {Path.cwd()}, checkpoint_dir: "
            f"{config['checkpoint_dir']} and content_cache: {config['content_cache'] or '~'}. Free the disk, or start "
            "elsewhere."
        )
        for note in getattr(error, "__notes__", ()):
            named.add_note(note)
        raise named from error
