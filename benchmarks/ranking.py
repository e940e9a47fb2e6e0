"""Seconds per user of ranking all items: this package's evaluation against a loop over users.

    python benchmarks/ranking.py --users 10000 --items 20000 --threads 2 --json ranking.json

The loop does what published research code does: for each user one forward of SASRec, the scores of all items, their
history set to minus infinity, a full descending argsort, the rank of the target, NDCG and hit added up in Python. Ours
is a whole ``evaluate`` of the same RecBole SASRec: loader, scores, collector, RecBole's metrics. They take turns, ours
over all users, the loop over a few, and have to find the same NDCG and hit for these few.

The purchases are drawn at random and the model has random weights, which leaves the time as it is.
"""

import argparse
import contextlib
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

import numpy as np  # noqa: E402
import torch  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402

from benchmarks.machine import describe  # noqa: E402
from benchmarks.ratios import ratios  # noqa: E402
from recbole_perpeft import quick_start  # noqa: E402
from recbole_perpeft.config import Config  # noqa: E402
from recbole_perpeft.data.eval_dataloader import FullRankingLoader
from recbole_perpeft.evaluation.collector import RankingCollector  # noqa: E402

NAME = "random"
TOP_K = 20
FEWEST, MOST = 5, 15  # purchases of a user
SEED = 2026


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--length", type=int, default=10, help="purchases that SASRec sees of a user")
    parser.add_argument("--loop_users", type=int, default=200, help="users that the loop ranks in a turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="of torch; torch's own number, if left out")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(arguments)


def write_purchases(folder: Path, n_users: int, n_items: int) -> None:
    """An atomic file in which every item is bought: each user starts with a stretch of a permutation of the items."""
    rng = np.random.default_rng(SEED)
    shuffled = rng.permutation(n_items)
    share = min(MOST, -(-n_items // n_users))
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(n_users):
        own = shuffled[np.arange(user * share, (user + 1) * share) % n_items]
        more = rng.choice(n_items, size=rng.integers(FEWEST, MOST + 1), replace=False)
        items = dict.fromkeys(np.concatenate([own, more]).tolist())
        lines += [f"{user}\t{item}\t{second}" for second, item in enumerate(items)]
    folder.mkdir()
    (folder / f"{NAME}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(values: argparse.Namespace, folder: Path) -> tuple[Trainer, FullRankingLoader]:
    """SASRec with random weights, and the test part."""
    write_purchases(folder / NAME, values.users, values.items)
    settings = {
        "data_path": str(folder),
        "hidden_size": values.hidden,
        "MAX_ITEM_LIST_LENGTH": values.length,
        "metrics": ["NDCG", "Hit"],
        "topk": [TOP_K],
        "valid_metric": f"NDCG@{TOP_K}",
        "metric_decimal_place": 9,
        "use_gpu": values.device == "cuda",
        "show_progress": False,
    }
    _, trainer, _, _, test_data = quick_start.prepare(Config("SASRec", NAME, config_dict=settings))
    trainer.eval_collector = RankingCollector(trainer.config)
    trainer.model.eval()
    return trainer, test_data


@torch.no_grad()
def loop(model: torch.nn.Module, sequences: list[np.ndarray], length: int) -> tuple[float, float]:
    """NDCG and hit of users, one at a time; a sequence is a user's purchases with the target last."""
    ndcg = hit = 0.0
    for sequence in sequences:
        history, target = sequence[:-1], sequence[-1]
        recent = history[-length:]
        inputs = torch.zeros(1, length, dtype=torch.long)
        inputs[0, : len(recent)] = torch.from_numpy(recent)
        output = model.forward(inputs.to(model.device), torch.tensor([len(recent)], device=model.device))  # [1, h]
        scores = (output @ model.item_embedding.weight.T)[0]  # [n_items]
        scores[0] = -torch.inf
        scores[torch.from_numpy(history).to(model.device)] = -torch.inf
        order = scores.argsort(descending=True)
        rank = int((order == target).nonzero()[0])
        if rank < TOP_K:
            ndcg += 1 / math.log2(rank + 2)
            hit += 1
    return ndcg / len(sequences), hit / len(sequences)


def timed(task: Callable, *arguments) -> tuple[float, object]:
    """Seconds that ``task`` takes, and what it gives."""
    start = time.perf_counter()
    result = task(*arguments)
    return time.perf_counter() - start, result


def measure(trainer: Trainer, test_data: FullRankingLoader, values: argparse.Namespace) -> dict:
    """Seconds per user of both sides, turn by turn.

    Raises
    ------
    RuntimeError
        If they do not find the same metrics.
    """
    part, config = test_data._dataset, trainer.config
    users = part.inter_feat[part.uid_field].numpy()
    rng = np.random.default_rng(SEED)
    turns = []
    for number in range(values.repeats + 1):
        rows = rng.choice(len(users), size=min(values.loop_users, len(users)), replace=False)
        few = part.copy(part.inter_feat[rows])
        by_loop, metrics = timed(
            loop, trainer.model, [part.sequences[user] for user in users[rows]], config["MAX_ITEM_LIST_LENGTH"]
        )
        by_ours, _ = timed(trainer.evaluate, test_data, False)
        # the metrics of all users are not those of the loop's few, whom ours ranks once more, untimed
        again = trainer.evaluate(FullRankingLoader(config, few, test_data._sampler), load_best_model=False)
        ours = again[f"ndcg@{TOP_K}"], again[f"hit@{TOP_K}"]
        if not np.allclose(metrics, ours, rtol=0, atol=1e-8):
            raise RuntimeError(f"The loop finds NDCG and hit {metrics}, ours {ours}: one of them is wrong.")
        if number:  # the first turn warms up
            turns.append({"loop": by_loop / len(rows), "ours": by_ours / len(users)})
    return {
        "loop_seconds_per_user": statistics.median(turn["loop"] for turn in turns),
        "ours_seconds_per_user": statistics.median(turn["ours"] for turn in turns),
        "ratio": ratios([turn["loop"] for turn in turns], [turn["ours"] for turn in turns]),
        "turns": turns,
        "users_of_a_block": test_data.step,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    values = parse(arguments)
    if values.threads:
        torch.set_num_threads(values.threads)
    json_file = values.json and values.json.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        result = measure(*prepare(values, Path(folder)), values)
    names = ("users", "items", "hidden", "length", "loop_users", "repeats")
    result |= {
        "settings": {name: getattr(values, name) for name in names},
        "machine": describe(torch.device(values.device)),
    }
    machine, ratio = result["machine"], result["ratio"]
    print(f"{values.users} users, {values.items} items, hidden size {values.hidden}, last {values.length} purchases")
    print(f"{machine['gpu'] or machine['processor']}, {machine['threads']} threads, torch {machine['torch']}")
    print(f"loop over users: {1e6 * result['loop_seconds_per_user']:8.1f} microseconds per user")
    print(
        f"ours:            {1e6 * result['ours_seconds_per_user']:8.1f} microseconds per user, "
        f"blocks of {result['users_of_a_block']} users"
    )
    print(f"ratio:           {ratio['median']:8.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})")
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
