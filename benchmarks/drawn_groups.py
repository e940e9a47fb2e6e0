"""What the demo's PerPEFT has with the groups that its generator drew: all but these groups is the package's.

    python benchmarks/drawn_groups.py --seeds 2020 2021 2022

Users stay in these groups (regroup_epochs: ~). Prints NDCG@20 in validation and test, mean and standard deviation over
the seeds. Words such as --epochs=60 are settings of the runs.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for dataset.make, which is not installed

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from dataset.make.catalogue import make_catalogue  # noqa: E402
from dataset.make.demo import N_ITEMS, N_USERS, SEED  # noqa: E402
from dataset.make.purchases import GROUPS, make_purchases  # noqa: E402
from recbole_perpeft import quick_start  # noqa: E402
from recbole_perpeft.config import Config  # noqa: E402
from recbole_perpeft.config.settings import settings_of  # noqa: E402
from recbole_perpeft.experiments.tables import cell, over_seeds  # noqa: E402
from recbole_perpeft.grouping.methods import GROUPINGS, RandomGroups  # noqa: E402

METRIC = "ndcg@20"


def drawn_groups() -> dict[str, int]:
    """The group that the demo's generator drew for each user, by the user's token."""
    purchases = make_purchases(make_catalogue(N_ITEMS, SEED), N_USERS, SEED)
    return dict(zip(purchases.user_ids, purchases.groups.tolist(), strict=True))


class DrawnGroups(RandomGroups):
    """Those of the generator, in place of groups by chance."""

    tokens: np.ndarray  # of user ids, as the run's data set has them

    def fit(self, model: nn.Module, sequences: dict[int, np.ndarray]) -> np.ndarray:
        """As :meth:`~recbole_perpeft.grouping.methods.GroupRule.fit`."""
        drawn = drawn_groups()
        return np.array([drawn[token] for token in self.tokens[list(sequences)]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    arguments, words = parser.parse_known_args()
    GROUPINGS["random"] = DrawnGroups
    found: list[tuple[float, float]] = []
    for seed in arguments.seeds:
        fixed = {"grouping": "random", "num_groups": len(GROUPS), "regroup_epochs": None}
        settings = {"seed": seed, "show_progress": False, "state": "ERROR", **fixed, **settings_of(words)}
        dataset, trainer, train_data, valid_data, test_data = quick_start.prepare(
            Config("PerPEFTSASRec", "demo", config_dict=settings)
        )
        DrawnGroups.tokens = dataset.field2id_token[dataset.uid_field]
        _, valid = trainer.fit(train_data, valid_data, verbose=False, saved=False)
        found.append((valid[METRIC], trainer.evaluate(test_data, load_best_model=True)[METRIC]))
    means = [cell(over_seeds(part), is_best=False) for part in zip(*found, strict=True)]
    print("| groups | seeds | validation | test |\n| --- | --- | --- | --- |")
    print(f"| as drawn | {len(found)} | {means[0]} | {means[1]} |")


if __name__ == "__main__":
    main()
