"""Quality against cost: what each way of encoding less does to NDCG@20, and what it saves.

    python benchmarks/ablation.py --dataset=demo --seeds 2020 2021 2022 --out ablation.json

Every variant is trained with the package's defaults but for its own settings and ``--set``. For each seed it prints
NDCG@20 in validation and test, the seconds of all training epochs and validations, and the items that went through the
foundation model. At the end: means over the seeds and, against the first variant, the paired difference with its
two-sided p-value (t-test over the users, of each one's difference in test NDCG@20, averaged over the seeds that had
them).
Runs that stand in the file are not repeated. Only the validation purchases choose anything.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import ttest_1samp

from recbole_perpeft import quick_start
from recbole_perpeft.config import Config
from recbole_perpeft.config.settings import known_settings, parse_value

WAYS = {
    "all layers": {"num_negatives": 128, "peft_layers": None, "batches_per_encoding": 1},
    "all items compete": {"num_negatives": None},
    "top layer only": {"peft_layers": 1},
    "top two layers only": {"peft_layers": 2},
    "top three layers only": {"peft_layers": 3},
    "2 batches per encoding": {"batches_per_encoding": 2},
    "4 batches per encoding": {"batches_per_encoding": 4},
    "defaults": {"peft_layers": 3, "batches_per_encoding": None},
    "128 users per batch": {"users_per_batch": 128},
    "256 users per batch": {"users_per_batch": 256},
    "32 negatives": {"num_negatives": 32},
    "fp32": {"precision": "fp32"},
}


def per_user_ndcg(trainer, data, k: int = 20) -> dict[str, float]:
    """NDCG@k of each user's one held-out purchase, by counting the items that score higher."""
    trainer.model.eval()
    trainer.tot_item_num = data._dataset.item_num
    result = {}
    with torch.no_grad():
        for batch in data:
            interaction, scores, _, targets = trainer._full_sort_batch_eval(batch)
            target_scores = scores[torch.arange(len(scores)), targets]
            ranks = 1 + (scores > target_scores[:, None]).sum(dim=1)  # [users]
            gains = torch.where(ranks <= k, 1 / torch.log2(ranks + 1.0), 0.0)
            users = data._dataset.id2token(data._dataset.uid_field, interaction[data._dataset.uid_field].cpu().numpy())
            result |= dict(zip(users.tolist(), gains.tolist(), strict=True))
    return result


def run(model: str, dataset: str, settings: dict) -> dict:
    """Train one model and measure it."""
    config = Config(model, dataset, config_dict={**settings, "show_progress": False})
    _, trainer, train_data, valid_data, test_data = quick_start.prepare(config)
    encoder = getattr(getattr(trainer.model, "item_tower", None), "encoder", None)
    start = time.perf_counter()
    valid_score, _ = trainer.fit(train_data, valid_data, verbose=False, saved=False)
    seconds = time.perf_counter() - start
    encoded = encoder.items_encoded if encoder else 0
    if encoder:
        trainer.restore_best()
    users = per_user_ndcg(trainer, test_data)
    return {
        "valid": float(valid_score),
        "test": float(np.mean(list(users.values()))),
        "seconds": seconds,
        "encoded": encoded,
        "users": {user: round(value, 6) for user, value in sorted(users.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--ways", nargs="+", default=["all layers", "all items compete"], metavar="WAY",
                        help=f"names joined by '+' are combined: {', '.join(WAYS)}")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; runs that it holds are not repeated")
    arguments = parser.parse_args()
    known = known_settings()
    common = {
        key: parse_value(key, text, known.get(key)) for key, text in (word.split("=", 1) for word in arguments.set)
    }
    done = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    for seed in arguments.seeds:
        for way in arguments.ways:
            name = json.dumps([arguments.dataset, way, sorted(arguments.set), seed])
            if name not in done:
                settings = dict(WAYS["all layers"])
                for part in way.split("+"):
                    settings |= WAYS[part]
                with tempfile.TemporaryDirectory() as folder:
                    folders = {"checkpoint_dir": folder}
                    done[name] = run(
                        "PerPEFTSASRec", arguments.dataset, {**settings, **common, **folders, "seed": seed}
                    )
                arguments.out.with_suffix(".partial").write_text(json.dumps(done))
                os.replace(arguments.out.with_suffix(".partial"), arguments.out)
            row = done[name]
            print(f"{way} · seed {seed}: valid {row['valid']:.4f} test {row['test']:.4f} "
                  f"{row['seconds']:.0f} s, {row['encoded']} items encoded", flush=True)  # fmt: skip
    _summary(arguments, done)


def _summary(arguments: argparse.Namespace, done: dict) -> None:
    rows = {
        way: [done[json.dumps([arguments.dataset, way, sorted(arguments.set), seed])] for seed in arguments.seeds]
        for way in arguments.ways
    }
    print("\n| way | valid NDCG@20 | test NDCG@20 | seconds | items encoded | difference in test | p |")
    print("|---|---|---|---|---|---|---|")
    for way, results in rows.items():
        means = {key: np.mean([row[key] for row in results]) for key in ("valid", "test", "seconds", "encoded")}
        difference, p = _paired(results, rows[arguments.ways[0]])
        compared = " | " if way == arguments.ways[0] else f"{difference:+.4f} | {p:.3f}"
        print(f"| {way} | {means['valid']:.4f} | {means['test']:.4f} | {means['seconds']:.0f} | {means['encoded']:.0f} "
              f"| {compared} |")  # fmt: skip


def _paired(results: list[dict], first: list[dict]) -> tuple[float, float]:
    """Mean difference of ``results`` to ``first``, which are of the same seeds, and its p-value."""
    differences: dict[str, list[float]] = {}
    for row, reference in zip(results, first, strict=True):
        for user, value in row["users"].items():
            differences.setdefault(user, []).append(value - reference["users"][user])
    of_users = [float(np.mean(values)) for values in differences.values()]
    return float(np.mean(of_users)), float(ttest_1samp(of_users, 0.0).pvalue)


if __name__ == "__main__":
    main()
