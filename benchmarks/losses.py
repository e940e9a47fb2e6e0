"""Which loss wins on validation: best validation NDCG@20 of PerPEFTSASRec under each loss.

    python benchmarks/losses.py --seeds 2020 2021 --dataset=demo [--key=value ...]

Prints a Markdown table of validation scores, one column per seed. The test part is not looked at.
"""

import argparse
import statistics

from recbole_perpeft.config import Config
from recbole_perpeft.quick_start import prepare

LOSSES = {"CE": 128, "BPR": 1, "BCE": 1}  # with the number of negatives that goes with each


def best_validation(loss: str, seed: int, settings: list[str]) -> float:
    """Best validation score of one run."""
    values = {"loss_type": loss, "num_negatives": LOSSES[loss], "seed": seed, "show_progress": False}
    config = Config("PerPEFTSASRec", config_dict={**values, "metric_decimal_place": 5}, command_line=settings)
    _, trainer, train_data, valid_data, _ = prepare(config)
    score, _ = trainer.fit(train_data, valid_data, verbose=False, saved=False)
    return float(score)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2020])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    arguments, settings = parser.parse_known_args()
    print("| loss | " + " | ".join(f"seed {seed}" for seed in arguments.seeds) + " | mean |")
    print("|---" * (len(arguments.seeds) + 2) + "|")
    for loss in arguments.losses:
        scores = [best_validation(loss, seed, settings) for seed in arguments.seeds]
        row = " | ".join(f"{score:.4f}" for score in scores)
        print(f"| {loss} | {row} | {statistics.mean(scores):.4f} |", flush=True)
