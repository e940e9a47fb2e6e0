"""``python -m recbole_perpeft compare …`` and ``python -m recbole_perpeft tune …``."""

import sys

from recbole_perpeft.commands import compare, tune
from recbole_perpeft.commands.exit_status import exit_status

COMMANDS = {"compare": compare.main, "tune": tune.main}


def main(arguments: list[str]) -> int:
    """Run the command that ``arguments`` begin with; gives the exit status."""
    if not arguments or arguments[0] not in COMMANDS:
        print(f"Usage: python -m recbole_perpeft {{{','.join(COMMANDS)}}} …; add --help for each.", file=sys.stderr)
        return 2
    return exit_status(lambda: COMMANDS[arguments[0]](arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
