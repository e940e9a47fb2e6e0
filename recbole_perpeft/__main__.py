"""``python -m recbole_perpeft compare …`` and ``python -m recbole_perpeft tune …``."""

import sys

from recbole_perpeft.commands import compare, tune
from recbole_perpeft.errors import PerPEFTError

COMMANDS = {"compare": compare.main, "tune": tune.main}


def main(arguments: list[str]) -> int:
    """Run the command that ``arguments`` begin with; gives the exit status."""
    if not arguments or arguments[0] not in COMMANDS:
        print(f"Usage: python -m recbole_perpeft {{{','.join(COMMANDS)}}} …; add --help for each.", file=sys.stderr)
        return 2
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except PerPEFTError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on: finished runs are not repeated.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
