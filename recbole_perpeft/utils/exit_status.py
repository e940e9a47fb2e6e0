"""How a command ends: with a status, and a line in place of a stack trace where the input is at fault."""

import os
import sys
from collections.abc import Callable

from recbole_perpeft.utils.errors import PerPEFTError

_PIPE_CLOSED = 128 + 13  # as shells call the end of a process by SIGPIPE


def exit_status(command: Callable[[], int | None], goes_on: bool = True) -> int:
    """Run ``command`` and give the process's exit status.

    Parameters
    ----------
    goes_on
        Whether the same command goes on where it was stopped.

    Returns
    -------
    int
        What the command gives (0 for None); 2 if its input was at fault, 130 if it was interrupted, 141 if what reads
        its output has ended, such as ``head``.
    """
    try:
        status = command() or 0
        sys.stdout.flush()  # else the interpreter does it, after all that could catch an error
        return status
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return _PIPE_CLOSED
    except PerPEFTError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        rest = "The same command goes on: finished runs are not repeated." if goes_on else "Nothing was written."
        print(f"Interrupted. {rest}", file=sys.stderr)
        return 130


def _reader_is_gone() -> bool:
    """Whether it was the output that could not be written; then what is left of it goes nowhere."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
