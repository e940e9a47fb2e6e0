"""What the groups' modules are worth: the validation score with them moved to their mean, or with their scores mixed.

    python benchmarks/apart.py saved/PerPEFTSASRec-shop-<time>.pth --distances 0 0.5 1 1.5 --mixings 0 0.5 1

With a distance of 0 all groups have the mean of their modules and projectors, with 1 each has its own as trained. If 0
is as good as 1, groups see items alike; if something in between is better, they have moved too far. Mixings are values
of group_mixing: the share of a user's scores that is the mean of those under every group's module as trained.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch

from recbole_perpeft.experiments.tables import pipes
from recbole_perpeft.model.item_embedding import MultimodalItemEmbedding
from recbole_perpeft.quick_start import load
from recbole_perpeft.trainer.weight_average import in_place
from recbole_perpeft.utils.errors import SettingError
from recbole_perpeft.utils.exit_status import exit_status


@contextmanager
def moved(tower: MultimodalItemEmbedding, num_groups: int, distance: float) -> Iterator[None]:
    """Put what each group has of its own at ``distance`` times its way from the groups' mean, for a while."""
    own = [[parameter.data for parameter in tower.group_parameters(group)] for group in range(num_groups)]
    mean = [torch.stack(values).mean(dim=0) for values in zip(*own, strict=True)]
    values = [torch._foreach_lerp(mean, parameters, distance) for parameters in own]
    tower.forget()
    try:
        with in_place(list(chain(*own)), list(chain(*values))):
            yield
    finally:
        tower.forget()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--distances", nargs="+", type=float, default=[0, 0.5, 1, 1.5])
    parser.add_argument("--mixings", nargs="+", type=float, default=[0, 0.25, 0.5, 0.75, 1])
    arguments = parser.parse_args()
    config, trainer, _, valid_data, _ = load(arguments.checkpoint, {"show_progress": False, "state": "ERROR"})
    tower, metric = trainer.model.item_tower, config["valid_metric"].lower()
    if not any(tower.group_parameters(group) for group in range(config["num_groups"])):
        raise SettingError(f"{arguments.checkpoint} has nothing of the groups' own. Give one with num_groups above 1.")
    trainer.model.group_mixing = 0
    lines = []
    for distance in arguments.distances:
        with moved(tower, config["num_groups"], distance):
            score = trainer.evaluate(valid_data, load_best_model=False)[metric]
        lines.append([f"{distance:g}", f"{score:.4f}"])
    print(pipes(["distance from the mean", f"{metric}, validation"], lines))
    lines = []
    for mixing in arguments.mixings:
        trainer.model.group_mixing = mixing
        score = trainer.evaluate(valid_data, load_best_model=False)[metric]
        lines.append([f"{mixing:g}", f"{score:.4f}"])
    print("\n" + pipes(["group_mixing", f"{metric}, validation"], lines))


if __name__ == "__main__":
    sys.exit(exit_status(main))
