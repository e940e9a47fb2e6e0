"""``python -m recbole_perpeft check``: what is in a data set, and what would go wrong with it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.config import Config
from recbole_perpeft.report.data_check.check import check_data
from recbole_perpeft.report.data_check.page import as_html
from recbole_perpeft.report.data_check.screen import as_text
from recbole_perpeft.utils.errors import DataError
from recbole_perpeft.utils.files import replacing

DESCRIPTION = """Say what is in a data set and what would go wrong with it, before anything is trained.

  python -m recbole_perpeft check --dataset=shop --text_fields="[title,brand]"
  python -m recbole_perpeft check --dataset=shop --model=SASRec
  python -m recbole_perpeft check --dataset=shop --report shop.html

Settings are those of a run. All that is wrong is said at once. The exit status is 1 if a run would fail, else 0."""


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    known, words = _parser().parse_known_args(arguments)
    files = known.config_files.split() if known.config_files else None
    config = Config(known.model, known.dataset, config_file_list=files, command_line=words)
    findings = check_data(config)
    print(as_text(findings))
    if known.report:
        try:
            with replacing(known.report) as temporary:
                temporary.write_text(as_html(findings), encoding="utf-8")
        except OSError as error:
            raise DataError(f"--report: {known.report} cannot be written: {error}") from error
        print(f"Written: {known.report}")
    return 1 if findings.number("error") else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft check", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--model", "-m", help="a PerPEFT model or any of RecBole's (default: PerPEFTSASRec)")
    parser.add_argument("--dataset", "-d", help="a folder of atomic files below data_path (default: demo)")
    parser.add_argument("--config_files", help="YAML files, separated by spaces; a later one wins")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="a page with the figures and some items, too")
    return parser
