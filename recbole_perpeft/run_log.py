"""The log of one run on the root logger, beside the handlers that the application has there."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole.utils import init_logger


@contextmanager
def run_log(config, verbose: bool = True) -> Iterator[str]:
    """Let the root logger write RecBole's log file and console lines of a run, and leave it as it was.

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
    str
        The log file.
    """
    for folder in (Path("log") / config["model"], Path(config["checkpoint_dir"])):
        folder.mkdir(parents=True, exist_ok=True)  # RecBole's own fails where a run beside makes them meanwhile
    root = logging.getLogger()
    theirs, level, streams = root.handlers, root.level, (sys.stdout, sys.stderr)
    root.handlers = []  # or init_logger does nothing
    try:
        init_logger(config)
    finally:
        ours, root.handlers = root.handlers, theirs
    if not verbose:
        for handler in ours:
            handler.setLevel(logging.ERROR)
    wanted = min(handler.level for handler in ours)
    root.setLevel(min(level, wanted))
    if any(_writes_to(handler, streams, wanted) for handler in theirs):
        ours = [handler for handler in ours if isinstance(handler, logging.FileHandler)]
    # ours come first: the one of the file takes colours out of a record, and is the one that tensorboard is named after
    root.handlers[:0] = ours
    try:
        yield next(handler.baseFilename for handler in ours if isinstance(handler, logging.FileHandler))
    finally:
        for handler in ours:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        sys.stdout, sys.stderr = streams  # init_logger wraps them anew at every call


def _writes_to(handler: logging.Handler, streams: tuple, level: int) -> bool:
    """Whether ``handler`` writes records of ``level`` to one of ``streams``."""
    return isinstance(handler, logging.StreamHandler) and handler.stream in streams and handler.level <= level
