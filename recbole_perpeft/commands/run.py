"""The command line of ``run_recbole_perpeft.py``, with the words of RecBole's ``run_recbole.py``."""

import argparse
import sys
from collections.abc import Sequence

from recbole_perpeft.utils.cores import share_cores
from recbole_perpeft.utils.errors import PerPEFTError
from recbole_perpeft.utils.files import listed_files
from recbole_perpeft.utils.late_imports import without_garbage_collection


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
    known, settings = parser.parse_known_args(arguments)
    share_cores()
    files = listed_files(known.config_files) or None
    try:
        with without_garbage_collection():
            from recbole_perpeft.quick_start import run  # --help does not wait for torch and RecBole
        return run(known.model, known.dataset, config_file_list=files, command_line=settings)
    except PerPEFTError as error:
        print(" ".join([f"{type(error).__name__}: {error}", *_notes(error)]), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        notes = _notes(error) or ["No checkpoint was written yet: the same command begins anew."]
        print(" ".join(["Interrupted.", *notes]), file=sys.stderr)
        sys.exit(130)


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])
