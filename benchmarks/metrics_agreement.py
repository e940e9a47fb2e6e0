"""Do NDCG, Recall, MAP and MRR agree with those of other libraries? The table of docs/compare.md.

The same ranked lists are judged by this package (RecBole's metrics, on lists as its collector makes them) and by each
library that is installed; those that are not are named. A library may need older packages than this one does: give it
an environment of its own, install this package there too, and run the script in each. Last run with

    pip install ranx==0.3.21 rectools==0.19.0 lenskit==2025.8.1 cornac==3.0.1 torchmetrics==1.9.0

    python -m benchmarks.metrics_agreement

A cell says "same" where no value differs by more than 1e-6, and else both values of the first case that differs.
"""

import importlib
import math
import warnings
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from recbole.evaluator import Evaluator

from recbole_perpeft.evaluation.collector import RankingCollector

METRICS = ("NDCG", "Recall", "MAP", "MRR")
CUTS = (1, 5, 20, 50)
USERS, ITEMS = 200, 60
SAME = 1e-6

# of every user: the items that could be ranked, best first, and the relevant ones
Lists = tuple[list[list[int]], list[set[int]]]


def cases() -> dict[str, Lists]:
    """Rankings with one and with several relevant items, of all items and of fewer than k."""
    rng = np.random.default_rng(0)
    made = {}
    for number, sizes in (("one", [1]), ("several", range(1, 13))):
        for reach, length in (("long lists", ITEMS), ("short lists", 12)):
            ranked, relevant = [], []
            for _ in range(USERS):
                order = rng.permutation(np.arange(1, ITEMS + 1))
                size = rng.choice(sizes)
                relevant.append({int(item) for item in order[rng.choice(length, size=size, replace=False)]})
                ranked.append([int(item) for item in order[:length]])
            made[f"{number} relevant, {reach}"] = ranked, relevant
    return made


def ours(ranked: list[list[int]], relevant: list[set[int]], k: int) -> dict[str, float]:
    """This package's collector and evaluator, on scores that give these rankings."""
    config = {"metrics": list(METRICS), "topk": [k], "metric_decimal_place": 12, "device": "cpu"}
    config["eval_args"] = {"mode": {"valid": "full", "test": "full"}}
    scores = torch.full((len(ranked), ITEMS + 1), -torch.inf)
    for row, items in enumerate(ranked):
        scores[row, items] = torch.arange(len(items), 0, -1).float()
    pairs = [(row, item) for row, items in enumerate(relevant) for item in items]
    users, items = torch.tensor(pairs).T
    collector = RankingCollector(config)
    collector.eval_batch_collect(scores, None, users, items)
    result = Evaluator(config).evaluate(collector.get_data_struct())
    return {name: float(result[f"{name.lower()}@{k}"]) for name in METRICS}


def ranx(ranked: list[list[int]], relevant: list[set[int]], k: int) -> dict[str, float]:
    from ranx import Qrels, Run, evaluate

    truth = {f"u{row}": {f"i{item}": 1 for item in items} for row, items in enumerate(relevant)}
    run = {
        f"u{row}": {f"i{item}": float(-place) for place, item in enumerate(items)} for row, items in enumerate(ranked)
    }
    names = {"NDCG": f"ndcg@{k}", "Recall": f"recall@{k}", "MAP": f"map@{k}", "MRR": f"mrr@{k}"}
    found = evaluate(Qrels.from_dict(truth), Run.from_dict(run), list(names.values()))
    return {name: float(found[key]) for name, key in names.items()}


def rectools(ranked: list[list[int]], relevant: list[set[int]], k: int, achievable: bool = False) -> dict[str, float]:
    import pandas as pd
    from rectools.metrics import MAP, MRR, NDCG, Recall

    recommended = pd.DataFrame(
        [(row, item, place) for row, items in enumerate(ranked) for place, item in enumerate(items, start=1)],
        columns=["user_id", "item_id", "rank"],
    )
    bought = pd.DataFrame([(row, item) for row, items in enumerate(relevant) for item in items])
    bought.columns = ["user_id", "item_id"]
    metrics = {"NDCG": NDCG(k, divide_by_achievable=achievable), "Recall": Recall(k), "MAP": MAP(k), "MRR": MRR(k)}
    return {name: float(metric.calc(recommended, bought)) for name, metric in metrics.items()}


def rectools_achievable(ranked: list[list[int]], relevant: list[set[int]], k: int) -> dict[str, float]:
    return rectools(ranked, relevant, k, achievable=True)


def lenskit(ranked: list[list[int]], relevant: list[set[int]], k: int) -> dict[str, float]:
    from lenskit.data import ItemList
    from lenskit.metrics import NDCG, Recall, RecipRank
    from lenskit.metrics.ranking import AveragePrecision

    metrics = {"NDCG": NDCG(k), "Recall": Recall(k), "MAP": AveragePrecision(k), "MRR": RecipRank(k)}
    lists = [
        (ItemList(items, ordered=True), ItemList(sorted(own))) for items, own in zip(ranked, relevant, strict=True)
    ]
    return {
        name: float(np.mean([metric.measure_list(items, own) for items, own in lists]))
        for name, metric in metrics.items()
    }


def cornac(ranked: list[list[int]], relevant: list[set[int]], k: int) -> dict[str, float]:
    from cornac.metrics import MAP, MRR, NDCG, Recall

    values = []
    for items, own in zip(ranked, relevant, strict=True):
        places, positives = np.array(items), np.array(sorted(own))
        values.append([
            NDCG(k).compute(gt_pos=positives, pd_rank=places),
            Recall(k).compute(gt_pos=positives, pd_rank=places),
            MAP().compute(item_indices=places, pd_scores=-np.arange(len(places)), gt_pos=positives),
            MRR().compute(gt_pos=positives, pd_rank=places),
        ])  # fmt: skip
    return dict(zip(METRICS, np.mean(values, axis=0).tolist(), strict=True))


def torchmetrics(ranked: list[list[int]], relevant: list[set[int]], k: int) -> dict[str, float]:
    from torchmetrics import retrieval

    rows = [
        (row, ITEMS - place, item in relevant[row])
        for row, items in enumerate(ranked)
        for place, item in enumerate(items)
    ]
    indexes, scores, target = (torch.tensor(column) for column in zip(*rows, strict=True))
    classes = {
        "NDCG": retrieval.RetrievalNormalizedDCG, "Recall": retrieval.RetrievalRecall,
        "MAP": retrieval.RetrievalMAP, "MRR": retrieval.RetrievalMRR,
    }  # fmt: skip
    return {name: float(cls(top_k=k)(scores.float(), target, indexes=indexes)) for name, cls in classes.items()}


LIBRARIES: dict[str, tuple[str, Callable[..., dict[str, float]]]] = {
    "ranx": ("ranx", ranx),
    "RecTools": ("rectools", rectools),
    "RecTools, divide_by_achievable": ("rectools", rectools_achievable),
    "LensKit": ("lenskit", lenskit),
    "Cornac": ("cornac", cornac),
    "torchmetrics": ("torchmetrics", torchmetrics),
}


def agreement() -> dict[str, dict[str, dict[str, str]]]:
    """Of each library and metric: for each case, ``same`` or the first cut that differs with both values."""
    expected = {(case, k): ours(*lists, k) for case, lists in cases().items() for k in CUTS}
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name, (package, judge) in LIBRARIES.items():
        try:
            importlib.import_module(package)
        except ImportError:
            print(f"{name}: not installed (pip install {package})")
            continue
        cells: dict[str, dict[str, str]] = {metric: {} for metric in METRICS}
        for case, lists in cases().items():
            for k in CUTS:
                for metric, value in judge(*lists, k).items():
                    own = expected[case, k][metric]
                    if not math.isclose(own, value, abs_tol=SAME):
                        cells[metric].setdefault(case, f"@{k}: {value:.4f} for our {own:.4f}")
        found[f"{name} {version(package)}"] = cells
    return found


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    print(f"| library | case | {' | '.join(METRICS)} |\n|---|---|{'---|' * len(METRICS)}")
    for name, cells in agreement().items():
        for case in cases():
            print(f"| {name} | {case} | {' | '.join(cells[metric].get(case, 'same') for metric in METRICS)} |")


if __name__ == "__main__":
    main()
