"""What weights of a score's terms should go by: NDCG@20 itself, or the gain that the package's search goes by.

    python benchmarks/weight_gain.py saved/<checkpoint>.pth [saved/<other>.pth ...]

Ranks the validation purchases of each model with many weights and every form of its two terms. Then, time and again,
some of the users choose the best of them, by either, and the others judge it by NDCG@20. The test is not read.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for recbole_perpeft of this checkout

import numpy as np  # noqa: E402
import torch  # noqa: E402

from recbole_perpeft.evaluation.rank_gain import gains  # noqa: E402
from recbole_perpeft.evaluation.ranked_rows import model_scorer  # noqa: E402
from recbole_perpeft.model.score_parts import Part, only  # noqa: E402
from recbole_perpeft.quick_start import load  # noqa: E402

K = 20
FACTORS = (0, 0.25, 0.5, 1, 2, 4, 8)  # of the weights that the model has
CONTENT = [{"decay": decay} for decay in (0.65, 0.8, 1.0)]
PURCHASES = [{"decay": decay, "damping": damping} for decay, damping in product((0.8, 1.0), (0.0, 0.5))]


@torch.no_grad()
def items_above(trainer, valid_data) -> torch.Tensor:
    """How many items are above each validation purchase, ``[n, candidates]``."""
    model, rows = trainer.model, []
    model.encode_catalogues()
    terms = {part: model.score_terms[part] for part in (Part.CONTENT, Part.PURCHASES)}
    weights = [[factor * float(term.weight) for factor in FACTORS] for term in terms.values()]
    if not all(weights[term][-1] for term in (0, 1)):
        raise SystemExit("A term of this model weighs nothing: there are no multiples of its weight to try.")
    with model_scorer(trainer, valid_data) as score:
        for batch in valid_data:

            def part_of(part: Part, form: dict | None = None, batch: tuple = batch) -> tuple:
                for name, value in (form or {}).items():
                    getattr(terms[part], name).fill_(value)
                with only(part, model):
                    return score(batch)

            _, backbone, users, items = part_of(Part.BACKBONE)
            content, purchases = (
                [part_of(part, form)[1] for form in forms]
                for part, forms in ((Part.CONTENT, CONTENT), (Part.PURCHASES, PURCHASES))
            )
            above = []
            for by_content, weight in product(content, weights[0]):
                both = backbone + weight * by_content if weight else backbone
                for by_purchases, other in product(purchases, weights[1]):
                    mixed = both + other * by_purchases if other else both
                    above.append((mixed[users] > mixed[users, items, None]).sum(dim=1))
            rows.append(torch.stack(above, dim=1))
    return torch.cat(rows)


def judged(chosen_by: Sequence[np.ndarray], metric: np.ndarray, some: int, turns: int) -> np.ndarray:
    """What the others have of what ``some`` users choose by each of several gains, ``[turns, gains]``."""
    rng, found = np.random.default_rng(0), []
    for _ in range(turns):
        order = rng.permutation(len(metric))
        others = metric[order[some:]].mean(axis=0)  # [candidates]
        found.append([others[gain[order[:some]].sum(axis=0).argmax()] for gain in chosen_by])
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--users", nargs="+", type=int, default=[500, 1500, 6000], help="so many choose")
    parser.add_argument("--turns", type=int, default=100)
    arguments = parser.parse_args()
    print(f"| data | users who choose | chosen by NDCG@{K} | by the gain | the gain is better in |")
    print("| --- | --- | --- | --- | --- |")
    for checkpoint in arguments.checkpoints:
        config, trainer, _, valid_data, _ = load(checkpoint, config_dict={"show_progress": False})
        above = items_above(trainer, valid_data)
        metric = torch.where(above < K, 1 / torch.log2(2 + above.double()), 0).float().numpy()
        gain = gains(above, K).float().numpy()
        for some in arguments.users:
            if some <= 0.8 * len(above):
                found = judged((metric, gain), metric, some, arguments.turns)
                by_metric, by_gain = found.mean(axis=0)
                better = (found[:, 1] > found[:, 0]).mean()
                shown = f"{by_metric:.4f} | {by_gain:.4f} | {better:.0%} of {arguments.turns} turns"
                print(f"| {config['dataset']} | {some} of {len(above)} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
