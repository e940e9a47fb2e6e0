"""Seconds per user of ranking among 100 drawn items: one pass a user, against all items and against ``predict``.

    python benchmarks/sampled.py --users 10000 --items 20000 --threads 2 --json sampled.json

Three whole evaluations of the same RecBole SASRec take turns: all items are ranked (``mode: full``), each user's target
among 100 drawn items (``mode: uni100``), and among the same items by RecBole's ``predict``, one pass of the backbone
for each candidate, for a share of the users. The last two have to find the same metrics for them.

The purchases are drawn at random and the model has random weights, which leaves the time as it is.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

import numpy as np  # noqa: E402
import torch  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402

from benchmarks import ranking  # noqa: E402
from benchmarks.machine import describe  # noqa: E402
from recbole_perpeft import quick_start  # noqa: E402
from recbole_perpeft.config import Config  # noqa: E402
from recbole_perpeft.data.eval_dataloader import FullRankingLoader  # noqa: E402
from recbole_perpeft.data.sampled_ranking import CandidateRankingLoader, SampledRankingLoader  # noqa: E402


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--length", type=int, default=50, help="purchases that SASRec sees of a user")
    parser.add_argument("--predict_users", type=int, default=500, help="users whose candidates `predict` scores")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="of torch; torch's own number, if left out")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(arguments)


def prepare(values: argparse.Namespace, folder: Path) -> tuple[Trainer, CandidateRankingLoader]:
    """SASRec with random weights, and the test part with its candidates."""
    ranking.write_purchases(folder / ranking.NAME, values.users, values.items)
    settings = {
        "data_path": str(folder),
        "eval_args": {"mode": "uni100"},
        "hidden_size": values.hidden,
        "MAX_ITEM_LIST_LENGTH": values.length,
        "topk": [10],
        "metric_decimal_place": 9,
        "use_gpu": values.device == "cuda",
        "show_progress": False,
    }
    _, trainer, _, _, test_data = quick_start.prepare(Config("SASRec", ranking.NAME, config_dict=settings))
    return trainer, test_data


def measure(trainer: Trainer, test_data: CandidateRankingLoader, values: argparse.Namespace) -> dict:
    """Seconds per user of the three ways, turn by turn; the candidates are drawn before, which is timed apart.

    Raises
    ------
    RuntimeError
        If one pass a user and ``predict`` do not find the same metrics.
    """
    part, sampler, config = test_data._dataset, test_data._sampler, trainer.config
    few = part.copy(part.inter_feat[np.arange(min(values.predict_users, len(part)))])
    few_by_predict, few_in_one = (kind(config, few, sampler) for kind in (SampledRankingLoader, CandidateRankingLoader))
    sizes = {"full": len(part), "uni100": len(part), "predict": len(few)}
    loaders = {"full": FullRankingLoader(config, part, sampler), "uni100": test_data, "predict": few_by_predict}
    first, _ = ranking.timed(trainer.evaluate, test_data, False)
    turns = []
    for number in range(values.repeats + 1):
        found = {name: ranking.timed(trainer.evaluate, loader, False) for name, loader in loaders.items()}
        if number:  # the first turn warms up
            turns.append({name: seconds / sizes[name] for name, (seconds, _) in found.items()})
    of_predict, of_one = found["predict"][1], trainer.evaluate(few_in_one, load_best_model=False)
    if not np.allclose(list(of_predict.values()), list(of_one.values()), rtol=0, atol=1e-3):
        raise RuntimeError(f"predict finds {of_predict}, one pass a user {of_one}: one of them is wrong.")
    ratios = {name: [turn[name] / turn["full"] for turn in turns] for name in ("uni100", "predict")}
    return {
        "seconds_per_user": {name: statistics.median(turn[name] for turn in turns) for name in loaders},
        "first_evaluation_seconds_per_user": first / len(part),
        "in_times_of_full": {
            name: {"median": statistics.median(of), "min": min(of), "max": max(of)} for name, of in ratios.items()
        },
        "largest_difference_of_metrics": max(abs(of_predict[name] - of_one[name]) for name in of_one),
        "turns": turns,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    values = parse(arguments)
    if values.threads:
        torch.set_num_threads(values.threads)
    json_file = values.json and values.json.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        result = measure(*prepare(values, Path(folder)), values)
    names = ("users", "items", "hidden", "length", "predict_users", "repeats")
    result |= {
        "settings": {name: getattr(values, name) for name in names},
        "machine": describe(torch.device(values.device)),
    }
    machine = result["machine"]
    print(f"{values.users} users, {values.items} items, hidden size {values.hidden}, last {values.length} purchases")
    print(f"{machine['gpu'] or machine['processor']}, {machine['threads']} threads, torch {machine['torch']}")
    for name, seconds in result["seconds_per_user"].items():
        line = f"{name:8} {1e6 * seconds:8.1f} microseconds per user"
        if name in result["in_times_of_full"]:
            of = result["in_times_of_full"][name]
            line += f", {of['median']:.2f} times the time of full ({of['min']:.2f} to {of['max']:.2f})"
        print(line)
    print(f"uni100, first evaluation: {1e6 * result['first_evaluation_seconds_per_user']:.1f}, with the draws")
    print(f"largest difference of a metric of predict and of one pass: {result['largest_difference_of_metrics']:.1e}")
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
