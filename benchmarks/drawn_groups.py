"""What the demo's PerPEFT has with the groups that its generator drew: all but these groups is the package's.

    python benchmarks/drawn_groups.py --seeds 2020 2021 2022
    python benchmarks/drawn_groups.py --seeds 2020 2021 2022 --share 0.3
    python benchmarks/drawn_groups.py --seeds 2020 2021 --found

Users stay in these groups (regroup_epochs: ~). Prints NDCG@20 in validation and test, mean and standard deviation over
the seeds. With --share so many users are held out of the training, and the test is theirs, in the group that was drawn
for them and in the one whose module predicts their purchases before the last best: how well purchases tell at all in
which group a user is, if the groups' modules are as good as they can be. With --found groups are those that a run
finds by itself, and the adjusted Rand index says how like the drawn ones they are in the end. Words such as --epochs=60
are settings of the runs.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for dataset.make, which is not installed

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.new_users import prepare_without  # noqa: E402
from dataset.make.catalogue import make_catalogue  # noqa: E402
from dataset.make.demo import N_ITEMS, N_USERS, SEED  # noqa: E402
from dataset.make.purchases import GROUPS, make_purchases  # noqa: E402
from recbole_perpeft import quick_start  # noqa: E402
from recbole_perpeft.config import Config  # noqa: E402
from recbole_perpeft.config.settings import settings_of  # noqa: E402
from recbole_perpeft.data.item_lists import last_items  # noqa: E402
from recbole_perpeft.experiments.tables import cell, over_seeds, pipes  # noqa: E402
from recbole_perpeft.experiments.worker import gain, ranks_of_targets  # noqa: E402
from recbole_perpeft.grouping.methods import GROUPINGS, RandomGroups, best_predicted  # noqa: E402

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


def of_all(config: Config) -> dict[str, float]:
    """NDCG@20 of a training of all users, and how like the groups drawn for them theirs are."""
    dataset, trainer, train_data, valid_data, test_data = quick_start.prepare(config)
    DrawnGroups.tokens = tokens = dataset.field2id_token[dataset.uid_field]
    _, valid = trainer.fit(train_data, valid_data, verbose=False, saved=False)
    test = trainer.evaluate(test_data, load_best_model=True)
    drawn, groups = drawn_groups(), trainer.model.user_groups[1:].tolist()
    index = adjusted_rand_score([drawn[token] for token in tokens[1:]], groups)
    return {"validation": valid[METRIC], "test": test[METRIC], "adjusted Rand index": index}


def of_held_out(config: Config, share: float) -> dict[str, float]:
    """NDCG@20 of users who did not train, in the groups drawn for them and in those that modules tell."""
    held, trainer, train_data, valid_data, test_data = prepare_without(config, share)
    model, dataset = trainer.model, test_data._dataset
    DrawnGroups.tokens = tokens = dataset.field2id_token[dataset.uid_field]
    score, _ = trainer.fit(train_data, valid_data, verbose=False, saved=False)
    trainer.restore_best()
    model.eval()
    known = last_items([dataset.sequences[user][:-1] for user in held], model.max_seq_length)
    told = best_predicted(model, torch.from_numpy(held).to(model.device), known.to(model.device)).cpu().numpy()
    drawn = np.array([drawn_groups()[token] for token in tokens[held]])
    names = set(tokens[held])

    def ndcg(groups: np.ndarray) -> float:
        model.move(held, groups)
        test_data.order_by(model.user_groups.cpu().numpy())
        ranks = ranks_of_targets(trainer, test_data)
        return float(np.mean([gain("NDCG@20", rank) for user, (_, rank) in ranks.items() if user in names]))

    return {
        "validation": float(score),
        "held out, in the group drawn": ndcg(drawn),
        "in the group that modules tell": ndcg(told),
        "adjusted Rand index of these": adjusted_rand_score(drawn, told),
        "share in the group drawn": float((drawn == told).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    parser.add_argument("--share", type=float, help="of the users, held out of the training")
    parser.add_argument("--found", action="store_true", help="let the run find groups by itself")
    arguments, words = parser.parse_known_args()
    GROUPINGS["random"] = DrawnGroups
    found = []
    for seed in arguments.seeds:
        fixed = {"grouping": "random", "num_groups": len(GROUPS), "regroup_epochs": None}
        if arguments.found:
            fixed = {}
        elif arguments.share:  # a group's share of a user is of those who train
            fixed["soft_groups"] = False
        settings = {"seed": seed, "show_progress": False, "state": "ERROR", **fixed, **settings_of(words)}
        config = Config("PerPEFTSASRec", "demo", config_dict=settings)
        found.append(of_held_out(config, arguments.share) if arguments.share else of_all(config))
    means = [cell(over_seeds([one[name] for one in found]), is_best=False) for name in found[0]]
    name = "found" if arguments.found else "as drawn"
    print(pipes(["groups", "seeds", *found[0]], [[name, str(len(found)), *means]]))


if __name__ == "__main__":
    main()
