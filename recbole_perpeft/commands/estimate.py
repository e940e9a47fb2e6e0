"""``python -m recbole_perpeft estimate``: what a run would take, before it is run."""

import argparse
from collections.abc import Sequence

from recbole_perpeft.config import Config
from recbole_perpeft.utils.files import listed_files

DESCRIPTION = """Say what a run of SASRec with PerPEFT would take: seconds, memory and disk of each part.

  python -m recbole_perpeft estimate --items 200000 --users 50000 --encoder=openai/clip-vit-base-patch32
  python -m recbole_perpeft estimate --items 10000000 --users 1000000 --encoder=clip --peft_type=IISAN --tflops 200

No data are read and no weights are loaded: the encoder's config says how many operations an item takes, and some
seconds of measuring how fast this machine is at such (on its CPU). Settings are those of a run."""
BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
SECONDS = ((24 * 3600, "days"), (3600, "h"), (60, "min"))


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    known, words = _parser().parse_known_args(arguments)
    files = listed_files(known.config_files) or None
    config = Config("PerPEFTSASRec", known.dataset, config_file_list=files, command_line=words)
    from recbole_perpeft.report.cost_model import costs  # late: they take seconds, which --help need not wait for
    from recbole_perpeft.report.cost_probe import measured
    from recbole_perpeft.report.cost_settings import sizes_of

    sizes, dtype = sizes_of(config, known.items, known.users, known.purchases, known.title_tokens)
    for heading, lines in costs(sizes, measured(sizes, dtype, known.tflops)).items():
        print(heading)
        for cost in lines:
            said = [seconds_of(cost.seconds)] if cost.seconds else []
            said += [f"{size_of(cost.memory)} of memory"] if cost.memory else []
            said += [f"{size_of(cost.disk)} on disk"] if cost.disk else []
            print(f"  {cost.name}: {', '.join(said) or 'next to nothing'}")
    return 0


def seconds_of(seconds: float) -> str:
    """As people say it: in the largest unit of which there are two."""
    unit, name = next((each for each in SECONDS if seconds >= 2 * each[0]), (1, "s"))
    return f"{_figures(seconds / unit)} {name}"


def size_of(size: float) -> str:
    """Bytes in the largest unit of which there is one."""
    unit, name = next((each for each in BYTES if size >= each[0]), (1, "bytes"))
    return f"{_figures(size / unit)} {name}"


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _number(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recbole_perpeft estimate", description=DESCRIPTION, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--items", type=_number, required=True, help="of the catalogue")
    parser.add_argument("--users", type=_number, required=True, help="who train")
    parser.add_argument("--purchases", type=_number, default=10, help="of a user in training (default: 10)")
    parser.add_argument("--title_tokens", type=_number, default=16, help="of a title, by the encoder (default: 16)")
    parser.add_argument(
        "--tflops", type=float, help="10^12 operations a second at the encoder's products; measured by default"
    )
    parser.add_argument("--dataset", "-d", default="any", help="whose settings are taken, if it has any of its own")
    parser.add_argument("--config_files", help="YAML files, separated by spaces; a later one wins")
    return parser
