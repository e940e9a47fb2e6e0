"""What each grouping finds of the demo's interest groups: normalised mutual information with those of its generator.

    python benchmarks/groups.py --seeds 2020 2021 2022 --peft_type=NONE

Trains stage 1 for as many epochs as the demo does, groups the users in each way, and compares. 0: unrelated; 1: the
same groups. Words such as --peft_type=NONE are settings of the runs.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

import numpy as np  # noqa: E402
from sklearn.metrics import normalized_mutual_info_score  # noqa: E402

from benchmarks.drawn_groups import drawn_groups  # noqa: E402
from recbole_perpeft import quick_start  # noqa: E402
from recbole_perpeft.config import Config  # noqa: E402
from recbole_perpeft.config.settings import settings_of  # noqa: E402
from recbole_perpeft.grouping.assignment import stage_2_groups  # noqa: E402
from recbole_perpeft.grouping.methods import GROUPINGS  # noqa: E402

WAYS = ("likeness", "coherence", "kmeans", "random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    arguments, words = parser.parse_known_args()
    drawn = drawn_groups()
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in arguments.seeds:
        settings = {"seed": seed, "show_progress": False, "state": "ERROR", **settings_of(words)}
        config = Config("PerPEFTSASRec", "demo", config_dict=settings)
        config = Config("PerPEFTSASRec", "demo", config_dict={**settings, "epochs": config["global_epochs"]})
        _, trainer, train_data, valid_data, _ = quick_start.prepare(config)
        trainer.fit(train_data, valid_data, verbose=False, saved=False)
        for way in WAYS:
            trainer.model.group_rule = GROUPINGS[way](config["num_groups"], seed)
            users, groups = stage_2_groups(trainer.model, train_data)
            tokens = train_data._dataset.id2token(train_data._dataset.uid_field, users)
            truth = np.array([drawn[token] for token in tokens])
            found[way].append(normalized_mutual_info_score(truth, groups))
    print(
        f"{len(arguments.seeds)} seeds, {config['num_groups']} groups of {len(users)} users, 6 drawn by the generator"
    )
    print("| `grouping` | normalised mutual information, mean (least to most) |\n|---|---|")
    for way, values in found.items():
        print(f"| {way} | {statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f}) |")


if __name__ == "__main__":
    main()
