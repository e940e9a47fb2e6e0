"""The command line of ``run_recbole_perpeft.py``, with the words of RecBole's ``run_recbole.py``."""

import argparse
import sys
from collections.abc import Sequence

from recbole_perpeft.utils.cores import share_cores
from recbole_perpeft.utils.errors import PerPEFTError
from recbole_perpeft.utils.files import listed_files
from recbole_perpeft.utils.late_imports import without_garbage_collection
from recbole_perpeft.utils.launch import place, places, start


def main(arguments: Sequence[str] | None = None) -> dict:
    """Run what the command line asks for; a mistake in the input ends with one clear line and exit status 2.

    Parameters
    ----------
    arguments
        Words after the script's name; default: the process's own.
    """
    parser = argparse.ArgumentParser(
        description="Train and test a PerPEFT model or one of RecBole's on a data set of atomic files.",
        epilog="Every other setting is given as --key=value; properties/ lists them.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", "-m", help="a PerPEFT model or any of RecBole's (default: PerPEFTSASRec)")
    parser.add_argument("--dataset", "-d", help="a folder of atomic files below data_path (default: demo)")
    parser.add_argument("--config_files", help="YAML files, separated by spaces; a later one wins")
    several = parser.add_argument_group("several processes, where torchrun does not start them")
    several.add_argument("--nproc", type=int, default=1, help="processes on this machine (default: 1)")
    several.add_argument("--world_size", type=int, default=-1, help="processes on all machines (default: nproc)")
    several.add_argument("--ip", help="the first machine's address (default: localhost)")
    several.add_argument("--port", type=int, help="a free port there (default: any; of several machines 5678)")
    several.add_argument("--group_offset", type=int, default=0, help="processes on the machines before (default: 0)")
    known, settings = parser.parse_known_args(arguments)
    share_cores()
    files = listed_files(known.config_files) or None
    of_run = {"model": known.model, "dataset": known.dataset, "config_file_list": files, "command_line": settings}
    try:
        if started := places(known.nproc, known.world_size, known.ip, known.port, known.group_offset):
            return start(started, "recbole_perpeft.quick_start:run", of_run)
        with without_garbage_collection():
            from recbole_perpeft.quick_start import run  # --help does not wait for torch and RecBole
        return run(**of_run)
    except PerPEFTError as error:
        _say(error, f"{type(error).__name__}: {error}", *_notes(error))
        sys.exit(2)
    except KeyboardInterrupt as error:
        _say(error, "Interrupted.", *_notes(error) or ["No checkpoint was written yet: the same command begins anew."])
        sys.exit(130)


def _say(error: BaseException, *sentences: str) -> None:
    """Print them, unless another of several processes does."""
    if (here := place()) is not None:
        from recbole_perpeft.utils.joining import is_said_here

        if not is_said_here(error, here):
            return
    print(" ".join(sentences), file=sys.stderr)


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])
