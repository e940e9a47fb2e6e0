"""How far better features could take the demo: the aspects that its generator drew, in the place of the encoder's.

    python benchmarks/ceiling.py --seeds 2020 2021 2022 --learning_rate=0.004 --averaging_epochs=3

Trains on the frozen encoder's features and on the true aspects of every item (a one for each value it has: no encoder
can read more from pictures and titles), with one view for all and with a projector for each group. Prints NDCG@20, mean
and standard deviation over the seeds. Words such as --learning_rate=0.004 are settings of all runs.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for dataset.make, which is not installed

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from dataset.make.aspects import N_VALUES  # noqa: E402
from dataset.make.catalogue import make_catalogue  # noqa: E402
from dataset.make.demo import N_ITEMS, SEED  # noqa: E402
from recbole_perpeft import quick_start  # noqa: E402
from recbole_perpeft.config import Config  # noqa: E402
from recbole_perpeft.config.settings import settings_of  # noqa: E402
from recbole_perpeft.experiments.tables import cell, over_seeds  # noqa: E402

VIEWS = {"one view for all": {"num_groups": 1}, "a projector for each group": {"personalised_by": "group_projector"}}


def true_aspects(tokens: list[str], width: int) -> torch.Tensor:
    """One-hot aspects of items by their tokens, zeros for padding, as long as two towers' features.

    Parameters
    ----------
    tokens : list of str
        The data set's items, padding first.
    width : int
        Columns of the table; those past the aspects are zeros.

    Returns
    -------
    FloatTensor[n_items, width]
    """
    catalogue = make_catalogue(N_ITEMS, SEED)
    values = torch.from_numpy(catalogue.values)  # [n_items, n_aspects]
    ones = torch.cat([F.one_hot(column, n) for column, n in zip(values.T, N_VALUES, strict=True)], dim=1).float()
    ones = F.pad(ones * (2 / len(N_VALUES)) ** 0.5, (0, width - ones.shape[1]))
    row = {token: number for number, token in enumerate(catalogue.item_ids)}
    return torch.stack([torch.zeros(width), *(ones[row[token]] for token in tokens[1:])])


def score(settings: dict, exact: bool) -> tuple[float, float]:
    """NDCG@20 of one run in validation and test, on the true aspects if `exact`."""
    config = Config("PerPEFTSASRec", "demo", config_dict=settings)
    dataset, trainer, train_data, valid_data, test_data = quick_start.prepare(config)
    if exact:
        encoder = trainer.model.item_tower.encoder
        table = true_aspects(list(dataset.field2id_token[dataset.iid_field]), encoder.feature_dim).to(config["device"])
        encoder.encode = lambda items, group: table[items]
    _, valid = trainer.fit(train_data, valid_data, verbose=False, saved=False)
    return valid["ndcg@20"], trainer.evaluate(test_data)["ndcg@20"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    arguments, words = parser.parse_known_args()
    common = {"peft_type": "NONE", "show_progress": False, "state": "ERROR", **settings_of(words)}
    print("| features | | validation | test |\n| --- | --- | --- | --- |")
    for view, own in VIEWS.items():
        for name, exact in (("of the frozen encoder", False), ("true aspects", True)):
            scores = [score({**common, **own, "seed": seed}, exact) for seed in arguments.seeds]
            means = [cell(over_seeds(part), is_best=False) for part in zip(*scores, strict=True)]
            print(f"| {name} | {view} | {means[0]} | {means[1]} |", flush=True)


if __name__ == "__main__":
    main()
