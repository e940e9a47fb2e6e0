"""Each method tuned with equal effort on the validation purchases, then all compared on the test purchases.

    python benchmarks/tuned.py --dataset demo --peft IISAN --trials 10 --seeds 2020 2021 2022 --out results/tuned

Every method has the same number of trials of the same search with one seed (the settings as they are, then Optuna's
TPE); learning rate, weight decay and dropout are searched for all, the norm of the ids for those that hold it down
(--l2_emb names the values), the learning rate of PEFT modules for those that have any, groups for PerPEFT. What won is
written to OUT/<method>.yaml and run with all seeds; OUT/compare has the table. Words such as --user_sample=2000 are
settings of all runs, --for_perpeft epochs=20 of PerPEFT models. Goes on where it was stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from recbole_perpeft.commands.compare import compare
from recbole_perpeft.commands.tune import tune
from recbole_perpeft.config.settings import settings_of
from recbole_perpeft.experiments.variants import make_rows
from recbole_perpeft.utils.exit_status import exit_status

SEARCHED = {
    "learning_rate": ("loguniform", [0.0005, 0.004]),
    "weight_decay": ("choice", [0.0001, 0.1, 1.0]),
    "hidden_dropout_prob": ("choice", [0.2, 0.35, 0.5]),
}
OF_MODULES = {"peft_learning_rate": ("choice", [0.0002, 0.0005, 0.002])}
OF_GROUPS = {"num_groups": ("choice", [2, 4, 8]), "grouping": ("choice", ["kmeans", "coherence"])}
NORMS = (0.03, 0.1, 0.3)


def spaces(norms: Sequence[float] = NORMS) -> dict[str, dict]:
    """What is searched for each method; ``norms`` are values of ``l2_emb``, for those that hold their ids down."""
    of_ids = {"l2_emb": ("choice", list(norms))}
    return {
        "perpeft": SEARCHED | of_ids | OF_MODULES | OF_GROUPS,
        "global_peft": SEARCHED | of_ids | OF_MODULES,
        "frozen": SEARCHED | of_ids,
        "without_multimodal": SEARCHED,
        "without_multimodal_bce": SEARCHED | {"l2_emb": ("choice", [0.000001, 0.001, 0.01])},  # ids are all it has
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--peft", default="IISAN")
    parser.add_argument("--methods", nargs="+", default=list(spaces()), choices=spaces())
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    parser.add_argument("--l2_emb", nargs="+", type=float, default=NORMS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--for_perpeft", nargs="*", default=[], metavar="KEY=VALUE")
    arguments, words = parser.parse_known_args()
    common, for_perpeft = settings_of(words), settings_of(arguments.for_perpeft)
    files = []
    for method in arguments.methods:
        (row,) = make_rows(
            "PerPEFTSASRec", arguments.dataset, [method], [], [arguments.peft], common, for_perpeft
        )  # fmt: skip
        print(f"\n== {row.name}", flush=True)
        found, _ = tune(
            arguments.dataset, spaces(arguments.l2_emb)[method], arguments.out / f"tune-{method}", arguments.trials,
            row.model, row.settings,
        )  # fmt: skip
        best = {key: value for key, value in found[0].items() if key != "valid"}
        files.append(arguments.out / f"{method}.yaml")
        files[-1].write_text(yaml.safe_dump({"model": row.model, **row.settings, **best}, sort_keys=False))
    compare(arguments.dataset, arguments.out / "compare", [str(file) for file in files], seeds=arguments.seeds)


if __name__ == "__main__":
    sys.exit(exit_status(main))
