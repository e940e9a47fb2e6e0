"""``python -m recbole_perpeft COMMAND …``; ``recbole-perpeft`` is the same."""

import sys
from importlib import import_module

from recbole_perpeft.utils.cores import share_cores
from recbole_perpeft.utils.exit_status import exit_status
from recbole_perpeft.utils.late_imports import without_garbage_collection
from recbole_perpeft.utils.late_torch import import_torch_for_serving
from recbole_perpeft.utils.launch import refuse_several

# each a module of commands/ with a main; only the one that is asked for is imported
COMMANDS = ("cache", "check", "compare", "estimate", "explain", "export", "prepare", "recommend", "serve", "tune")
_OF_RUNS = ("compare", "tune")
_SERVES = "serve"


def main(arguments: list[str]) -> int:
    """Run the command that ``arguments`` begin with; gives the exit status."""
    if not arguments or arguments[0] not in COMMANDS:
        print(f"Usage: python -m recbole_perpeft {{{','.join(COMMANDS)}}} …; add --help for each.", file=sys.stderr)
        return 2

    share_cores()

    def command() -> int | None:
        refuse_several(arguments[0])
        with without_garbage_collection():  # imports take seconds, in which it may be interrupted too
            if arguments[0] == _SERVES:
                import_torch_for_serving()
            module = import_module(f"recbole_perpeft.commands.{arguments[0]}")
        return module.main(arguments[1:])

    return exit_status(command, goes_on=arguments[0] in _OF_RUNS)


def console() -> None:
    """The command ``recbole-perpeft``."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    console()
