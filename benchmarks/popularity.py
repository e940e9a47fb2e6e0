"""Whose targets a model finds: NDCG@20 by how often the target was bought in training, and whether the group bought it.

    python benchmarks/popularity.py saved/PerPEFTSASRec-shop-<time>.pth saved/PerPEFTSASRec-shop-<another time>.pth

Checkpoints of PerPEFT models on the same users; a model with one group tells whether anybody bought the target.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from recbole_perpeft.data.negative_pools import NegativePools
from recbole_perpeft.experiments.tables import pipes
from recbole_perpeft.experiments.worker import gain, ranks_of_targets
from recbole_perpeft.quick_start import load
from recbole_perpeft.utils.exit_status import exit_status

METRIC = "ndcg@20"
BOUGHT = {
    "never": (0, 0),
    "once": (1, 1),
    "2 or 3 times": (2, 3),
    "4 to 9 times": (4, 9),
    "10 times or more": (10, np.inf),
}


def gains_by_target(
    ranks: dict[str, tuple[str, float]], counts: np.ndarray, in_pool: np.ndarray, items: Sequence[int]
) -> dict[str, tuple[float, float]]:
    """Mean gain and share of the users for each kind of target.

    Parameters
    ----------
    ranks
        User to his target and its rank.
    counts
        How often each catalogue id was bought in training, ``[n_items]``.
    in_pool
        Whether the user's group bought the target, bool ``[users]``.
    items
        The target's catalogue id of each user, ``[users]``.

    Returns
    -------
    dict
        Name of the kind to ``(share of the users, mean gain)``.
    """
    gains = np.array([gain(METRIC, rank) for _, rank in ranks.values()])
    bought = counts[items]
    kinds = {f"bought {name}": (least <= bought) & (bought <= most) for name, (least, most) in BOUGHT.items()}
    kinds |= {"all": np.ones(len(gains), dtype=bool), "bought by the group": in_pool, "not by the group": ~in_pool}
    return {name: (rows.mean(), gains[rows].mean() if rows.any() else 0.0) for name, rows in kinds.items()}


def columns(file: str) -> list[dict]:
    """What :func:`gains_by_target` gives for the validation and the test purchases, of the model in a checkpoint."""
    config, trainer, train_data, valid_data, test_data = load(file, {"show_progress": False, "state": "ERROR"})
    dataset, groups = train_data._dataset, trainer.model.user_groups.cpu().numpy()
    counts = np.bincount(np.concatenate(list(train_data.histories.values())), minlength=dataset.item_num)
    everything = NegativePools.whole_catalogue(dataset.item_num, config["num_groups"], train_data.histories, [])
    pools = everything.of_groups(groups, 0)
    bought = ~np.stack([pools.outside(group, dataset.item_num) for group in range(config["num_groups"])])
    found = []
    for data in (valid_data, test_data):
        data.order_by(groups)
        ranks = ranks_of_targets(trainer, data)
        users = dataset.token2id(dataset.uid_field, list(ranks))
        items = dataset.token2id(dataset.iid_field, [item for item, _ in ranks.values()])
        found.append(gains_by_target(ranks, counts, bought[groups[users], items], items))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+")
    arguments = parser.parse_args()
    models = [columns(file) for file in arguments.checkpoints]
    for part, name in enumerate(("validation", "test")):
        head = [f"target, {name}", *(f"{METRIC} (users), {file}" for file in arguments.checkpoints)]
        lines = [
            [kind, *(f"{found[part][kind][1]:.4f} ({found[part][kind][0]:.0%})" for found in models)]
            for kind in models[0][part]
        ]
        print(pipes(head, lines))


if __name__ == "__main__":
    sys.exit(exit_status(main))
