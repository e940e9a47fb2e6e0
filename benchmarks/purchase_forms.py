"""Which counts of purchases rank best by themselves: NDCG@20 of validation purchases, without any other score.

    python benchmarks/purchase_forms.py --dataset=demo
    python benchmarks/purchase_forms.py --dataset=ml-100k

Other words are settings. Each line is one way to count a pair of purchases: 1 where the two follow each other, and so
much less for each one between them. Columns are forms of the purchase term that the validation chooses from.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from recbole_perpeft.data.preparation import create_dataset, data_preparation  # noqa: E402
from recbole_perpeft.evaluation.top_items import top_items  # noqa: E402
from recbole_perpeft.experiments.tables import pipes  # noqa: E402
from recbole_perpeft.model import purchase_term  # noqa: E402
from recbole_perpeft.trainer.resuming import make_config  # noqa: E402
from recbole_perpeft.utils.exit_status import exit_status  # noqa: E402

SHARES = (1.0, 0.9, 0.8, 0.6)
FORMS = tuple(product((0.65, 0.8, 1.0), (0.0, 0.25, 0.5)))  # decay, damping
BEST = 20


def blocks(valid_data) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Histories ``[n, length]``, what is masked as rows and items, and the purchases to be ranked ``[n]``, by block."""
    for rows, masked, _, positives in valid_data:
        yield rows["item_id_list"], masked[0], masked[1], positives


def ndcg(term: purchase_term.PurchaseTerm, valid_data) -> float:
    """NDCG@20 of the validation's purchases by the term alone."""
    gains = []
    for histories, rows, items, positives in blocks(valid_data):
        scores = term.of_all(histories)
        scores[rows, items] = -torch.inf
        scores[:, 0] = -torch.inf
        hits = top_items(scores, BEST) == positives[:, None]  # [n, 20]
        gains.append((hits / torch.log2(torch.arange(2, BEST + 2))).sum(dim=1))
    return float(torch.cat(gains).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _, words = parser.parse_known_args()
    config = make_config(model="SASRec", command_line=words)
    train_data, valid_data, _ = data_preparation(config, create_dataset(config))
    dataset = train_data.dataset
    lines = []
    for share in SHARES:
        with mock.patch.object(purchase_term, "_SHARE", share):
            term = purchase_term.PurchaseTerm(dataset.training_sequences().values(), dataset.item_num)
        found = []
        for decay, damping in FORMS:
            term.decay.fill_(decay)
            term.damping.fill_(damping)
            found.append(f"{ndcg(term, valid_data):.4f}")
        lines.append([f"{share:g}", *found])
    print(pipes(["share", *(f"{decay:g}, {damping:g}" for decay, damping in FORMS)], lines))


if __name__ == "__main__":
    sys.exit(exit_status(main))
