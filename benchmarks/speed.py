"""How fast PerPEFT trains and validates, against a naive reference (benchmarks/naive.py) and under other settings.

    python benchmarks/speed.py --encoder vit-b-32 --items 2000 --users 2000 --json speed.json --plot speed.png
    python benchmarks/speed.py --encoder vit-b-32 --items 15701 --users 25363 --device cuda --whole_epoch
    python benchmarks/speed.py --set num_negatives=64 --set config_files=properties/variant/paper.yaml precision=fp32

measures on a synthetic shop (python -m dataset.make.demo, at any size), for each side:

  - seconds of a training step, in turn with the other sides, in stage 1 and stage 3; items encoded; steps and seconds
    of an epoch; seconds of a validation and of a stage-3 epoch with it; each as a ratio to the naive reference
  - the shares of content, encoder forward, encoder backward, backbone, optimiser and validation
  - operations a second of the encoder in training steps, against matrix products on the same machine
  - the most memory that training takes, in a process of its own
  - what personalisation costs: an epoch with all groups against one with a single group, and memory per group

The sides are naive; paper (properties/variant/paper.yaml; in every step the users of naive's); default (the package's
settings); and one more for each --set. The naive validation is scaled up from a few batches and users. An epoch is its
number of steps times the median step, where batches that are encoded together (a window) share their time; the first
step of a stage, in which things may be computed once, stands apart. All else is measured in full.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for benchmarks and dataset, which are not installed

import torch  # noqa: E402

from benchmarks import report  # noqa: E402
from benchmarks.experiment import DEFAULT, Experiment  # noqa: E402
from benchmarks.sides import NAIVE, PAPER, SEED, Settings  # noqa: E402
from benchmarks.synthetic import make_shop  # noqa: E402

WINDOWS = {"cpu": 1, "cuda": 10}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=("demo", "vit-b-32"), default="demo")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--groups", type=int, default=8, help="groups of users, at least 2")
    parser.add_argument("--pictures", type=int, default=500, help="different pictures; further items share them")
    parser.add_argument("--device", choices=tuple(WINDOWS), default="cpu")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side")
    parser.add_argument("--windows", type=int, help="training windows of a turn (1 on a CPU, 10 on a GPU)")
    parser.add_argument(
        "--set", nargs="+", action="append", default=[], metavar="KEY=VALUE", help="one more side, with these settings"
    )
    parser.add_argument("--whole_epoch", action="store_true", help="also time one whole stage-3 epoch, except naive's")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--plot", type=Path, help="PNG of seconds per epoch by part (needs matplotlib)")
    values = parser.parse_args(arguments)
    values.windows = values.windows or WINDOWS[values.device]
    if values.groups < 2:
        parser.error("--groups: a single group leaves nothing to compare; give 2 or more")
    return values


def side_settings(more: list[list[str]]) -> list[Settings]:
    """Settings of every side, naive and paper first."""
    sides = [NAIVE, Settings("paper", files=(PAPER,)), DEFAULT]
    for words in more:
        values = dict(word.split("=", 1) for word in words)
        files = tuple(str(ROOT / file) for file in values.pop("config_files", "").split())
        sides.append(Settings(" ".join(words), tuple(f"--{key}={value}" for key, value in values.items()), files))
    return sides


def main(arguments: list[str] | None = None) -> None:
    """Make the shop, measure, print and write."""
    values = parse(arguments)
    json_file, plot_file = (file and file.resolve() for file in (values.json, values.plot))
    names = ("encoder", "items", "users", "groups", "pictures", "repeats", "windows")
    conditions = {name: getattr(values, name) for name in names}

    def keep(result: dict) -> None:
        if json_file:
            json_file.write_text(json.dumps({**result, "shop": conditions}, indent=2) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        work = Path(folder)
        shop = make_shop(work, values.encoder, values.items, values.users, values.pictures, SEED)
        report.say("made the shop")
        result = Experiment(
            side_settings(values.set),
            shop,
            work,
            torch.device(values.device),
            values.groups,
            values.repeats,
            values.windows,
            values.whole_epoch,
        ).run(keep)
    result["shop"] = conditions
    print(report.text(result))
    if plot_file:
        report.plot(result, plot_file)


if __name__ == "__main__":
    main()
