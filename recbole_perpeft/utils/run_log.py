"""The log of one run on the root logger, beside the handlers that the application has there."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole.utils import init_logger

from recbole_perpeft.utils import processes
from recbole_perpeft.utils.errors import SettingError
from recbole_perpeft.utils.files import reserve


@contextmanager
def run_log(config, verbose: bool = True) -> Iterator[str | None]:
    """Let the root logger write RecBole's log file and console lines of a run, and leave it as it was.

    Of several processes the first one logs.

    RecBole's ``init_logger`` adds its handlers once in a process, where there are none, and for ever. Here they are
    there for the run. Handlers of the application stay, and get all records; if one of them writes to the console
    already, ours is left out, or every line would stand there twice. The root logger's level is lowered to that of the
    run (``state``) where it is higher.

    Parameters
    ----------
    config
        Settings of the run.
    verbose
        Whether more than errors is written.

    Yields
    ------
    str or None
        The log file; None where another process logs.

    Raises
    ------
    SettingError
        If a folder for logs or checkpoints cannot be made.
    """
    for folder in (Path("log") / config["model"], Path(config["checkpoint_dir"])):
        try:
            folder.mkdir(parents=True, exist_ok=True)  # RecBole's own fails where a run beside makes them meanwhile
        except OSError as error:
            raise SettingError(
                f"Folder {folder} cannot be made: {error}. Start the run in a folder that can be written, and set "
                "checkpoint_dir to one."
            ) from error
    root = logging.getLogger()
    if not processes.is_first():
        with _silent(root):
            yield None
        return
    theirs, level, streams = root.handlers, root.level, (sys.stdout, sys.stderr)
    root.handlers = []  # or init_logger does nothing
    try:
        init_logger(config)
    finally:
        ours, root.handlers = root.handlers, theirs
    wrapped = sys.stdout, sys.stderr  # by init_logger, anew at every call
    file = next(handler for handler in ours if isinstance(handler, logging.FileHandler))
    if Path(file.baseFilename).stat().st_size:  # of a run with the same settings that began in the same second
        file.close()
        file.baseFilename = str(reserve(file.baseFilename))
    if not verbose:
        for handler in ours:
            handler.setLevel(logging.ERROR)
    wanted = min(handler.level for handler in ours)
    root.setLevel(min(level, wanted))
    if any(_writes_to(handler, streams, wanted) for handler in theirs):
        ours = [file]
    # ours come first: the one of the file takes colours out of a record, and is the one that tensorboard is named after
    root.handlers[:0] = ours
    try:
        yield file.baseFilename
    finally:
        for handler in ours:
            root.removeHandler(handler)
            with suppress(OSError):  # of a full disk, which must not hide what ended the run
                handler.close()
        root.setLevel(level)
        for name, stream, wrapper in zip(("stdout", "stderr"), streams, wrapped, strict=True):
            if getattr(sys, name) is wrapper:
                setattr(sys, name, stream)


@contextmanager
def _silent(root: logging.Logger) -> Iterator[None]:
    level = root.level
    root.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        root.setLevel(level)


def _writes_to(handler: logging.Handler, streams: tuple, level: int) -> bool:
    """Whether ``handler`` writes records of ``level`` to one of ``streams``."""
    return isinstance(handler, logging.StreamHandler) and handler.stream in streams and handler.level <= level
