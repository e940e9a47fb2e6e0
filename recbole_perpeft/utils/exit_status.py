"""How a command ends: with a status, and a line in place of a stack trace where the input is at fault."""

import sys
from collections.abc import Callable

from recbole_perpeft.utils.errors import PerPEFTError


def exit_status(command: Callable[[], int | None], goes_on: bool = True) -> int:
    """Run ``command`` and give the process's exit status.

    Parameters
    ----------
    goes_on
        Whether the same command goes on where it was stopped.

    Returns
    -------
    int
        What the command gives (0 for None); 2 if its input was at fault, 130 if it was interrupted.
    """
    try:
        return command() or 0
    except PerPEFTError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        rest = "The same command goes on: finished runs are not repeated." if goes_on else "Nothing was written."
        print(f"Interrupted. {rest}", file=sys.stderr)
        return 130
