"""What weights of a score's terms should go by: NDCG@20 itself, or the gain that the package's search goes by.

    python benchmarks/weight_gain.py saved/<checkpoint>.pth [saved/<other>.pth ...]

Ranks the validation purchases of each model with many weights of its two terms. Then, time and again, some of the users
choose the best of them, by either, and the others judge it by NDCG@20. The test is not read.
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
TERMS = (Part.CONTENT, Part.PURCHASES)


@torch.no_grad()
def items_above(trainer, valid_data) -> torch.Tensor:
    """How many items are above each validation purchase, ``[n, candidates]``."""
    model, rows = trainer.model, []
    model.encode_catalogues()
    weights = [float(model.score_terms[part].weight) for part in TERMS]
    if not all(weights):
        raise SystemExit("A term of this model weighs nothing: there are no multiples of its weight to try.")
    with model_scorer(trainer, valid_data) as score:
        for batch in valid_data:
            above, parts = [], []
            for part in (Part.BACKBONE, *TERMS):
                with only(part, model):
                    _, scores, users, items = score(batch)
                parts.append(scores)
            for factors in product(FACTORS, repeat=2):
                mixed = parts[0].clone()
                for factor, weight, part in zip(factors, weights, parts[1:], strict=True):
                    if factor:  # nothing times minus infinity is no number
                        mixed += factor * weight * part
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
    print(f"| data | users who choose | chosen by NDCG@{K} | by the gain |\n| --- | --- | --- | --- |")
    for checkpoint in arguments.checkpoints:
        config, trainer, _, valid_data, _ = load(checkpoint, config_dict={"show_progress": False})
        above = items_above(trainer, valid_data)
        metric = torch.where(above < K, 1 / torch.log2(2 + above.double()), 0).float().numpy()
        gain = gains(above, K).float().numpy()
        for some in arguments.users:
            if some <= 0.8 * len(above):
                found = judged((metric, gain), metric, some, arguments.turns)
                by_metric, by_gain = found.mean(axis=0)
                users = f"{some} of {len(above)}"
                print(f"| {config['dataset']} | {users} | {by_metric:.4f} | {by_gain:.4f} |", flush=True)


if __name__ == "__main__":
    main()
