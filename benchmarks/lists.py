"""Time and memory of the best items for every user: this package's lists against RecBole's ``full_sort_topk``.

    python benchmarks/lists.py --users 100000 --items 100000 --threads 1 --json lists.json

Both rank all items for the users of one PerPEFTSASRec with a table of random vectors for each of its groups, in blocks,
and have to find the same lists. RecBole's function is called on blocks of each size of ``--recbole_blocks`` in turn,
over a part of the users (``--recbole_users``), three times, and the fastest counts; ours is done once for all, and
written to a Parquet file. RecBole's lists hold what a user bought already, so ours may too here. Seconds are of the
processor, added up over threads, so that waiting for other processes does not count.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

import numpy as np  # noqa: E402
import torch  # noqa: E402
from recbole.utils.case_study import full_sort_topk  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.machine import describe, peak_bytes  # noqa: E402
from benchmarks.ranking import NAME, write_purchases  # noqa: E402
from recbole_perpeft import quick_start  # noqa: E402
from recbole_perpeft.config import Config  # noqa: E402
from recbole_perpeft.serving.list_file import write_lists  # noqa: E402
from recbole_perpeft.serving.opening import Opened  # noqa: E402
from recbole_perpeft.serving.recommender import Recommender  # noqa: E402

ENCODER = Path(__file__).resolve().parent.parent / "dataset" / "demo" / "encoder"
SEED = 2026
K = 20
TURNS = 3


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--length", type=int, default=10, help="purchases that SASRec sees of a user")
    parser.add_argument("--recbole_users", type=int, default=2000, help="users that full_sort_topk ranks in a turn")
    parser.add_argument("--recbole_blocks", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--threads", type=int, help="of torch; torch's own number, if left out")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(arguments)


def prepare(values: argparse.Namespace, folder: Path) -> tuple[nn.Module, object, Recommender]:
    """A model whose groups have tables of random vectors, the test loader, and a recommender that knows as much."""
    write_purchases(folder / NAME, values.users, values.items)
    rows = ["item_id:token\ttitle:token_seq", *(f"{item}\titem {item}" for item in range(values.items))]
    (folder / NAME / f"{NAME}.item").write_text("\n".join(rows) + "\n", encoding="utf-8")
    settings = {
        "data_path": str(folder),
        "encoder": str(ENCODER),
        "modalities": ["text"],
        "peft_type": "NONE",
        "num_groups": values.groups,
        "content_term": False,
        "hidden_size": values.hidden,
        "MAX_ITEM_LIST_LENGTH": values.length,
        "use_gpu": False,
        "show_progress": False,
    }
    config, trainer, *loaders = _prepared(Config("PerPEFTSASRec", NAME, config_dict=settings))
    model, generator = trainer.model, torch.Generator().manual_seed(SEED)
    model.user_groups.copy_(torch.randint(values.groups, model.user_groups.shape, generator=generator))
    model.user_groups[0] = -1
    for group in range(values.groups):
        table = torch.randn(values.items + 1, values.hidden, generator=generator)
        table[0] = 0
        model.item_tower._tables[group] = table
    parts = [loader._dataset for loader in loaders]
    return model, loaders[2], Recommender(Opened.of(config, model, parts), before_test=True)


def _prepared(config: Config) -> tuple:
    _, trainer, *loaders = quick_start.prepare(config)
    return config, trainer, *loaders


def recbole_seconds(model: nn.Module, test_data, values: argparse.Namespace) -> tuple[dict, dict]:
    """The fewest seconds per user for each size of blocks, and the lists that were found."""
    ids = torch.randperm(values.users, generator=torch.Generator().manual_seed(SEED))[: values.recbole_users] + 1
    seconds, lists = dict.fromkeys(values.recbole_blocks, float("inf")), {}
    for size in values.recbole_blocks * TURNS:
        start = time.process_time()
        for block in np.array_split(ids.numpy(), -(-len(ids) // size)):
            with torch.no_grad():
                _, best = full_sort_topk(block, model, test_data, K)
            # of a block RecBole gives the rows in the order of its data
            lists |= dict(zip(block.tolist(), best.numpy(), strict=True))
        seconds[size] = min(seconds[size], (time.process_time() - start) / len(ids))
    return seconds, lists


def measure(values: argparse.Namespace, folder: Path) -> dict:
    """Seconds per user of both sides.

    Raises
    ------
    RuntimeError
        If they do not find the same lists.
    """
    model, test_data, recommender = prepare(values, folder)
    before = peak_bytes(torch.device("cpu"))
    start = time.process_time()
    rows = write_lists(recommender.blocks(k=K, seen=True), folder / "lists.parquet")
    ours = (time.process_time() - start) / len(recommender.users)
    peak = peak_bytes(torch.device("cpu"))
    seconds, lists = recbole_seconds(model, test_data, values)
    dataset = test_data._dataset
    tokens = dataset.field2id_token[dataset.iid_field]
    some = [str(token) for token in dataset.field2id_token[dataset.uid_field][list(lists)]]
    found = recommender.recommend(some, k=K, seen=True).item_id.to_numpy().reshape(-1, K)
    same = float(np.mean(found == tokens[np.stack(list(lists.values()))]))
    if same < 0.9999:  # but for near-equal scores, which a block of another size rounds in another way
        raise RuntimeError(f"Only {same:.4%} of the items are the same.")
    fastest = min(seconds.values())
    return {
        "lists": rows // K,
        "same_items": same,
        "ours_seconds_per_user": ours,
        "recbole_seconds_per_user": {str(size): value for size, value in seconds.items()},
        "ratio": fastest / ours,
        "peak_bytes_before": before,
        "peak_bytes": peak,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    values = parse(arguments)
    if values.threads:
        torch.set_num_threads(values.threads)
    json_file = values.json and values.json.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        result = measure(values, Path(folder))
    names = ("users", "items", "hidden", "groups", "length", "recbole_users", "recbole_blocks")
    result |= {"settings": {name: getattr(values, name) for name in names}, "machine": describe(torch.device("cpu"))}
    machine = result["machine"]
    print(f"{values.users} users, {values.items} items, hidden size {values.hidden}, {values.groups} groups, top {K}")
    print(f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}")
    for size, seconds in result["recbole_seconds_per_user"].items():
        print(f"full_sort_topk, blocks of {size:>4}: {1e6 * seconds:8.1f} microseconds per user")
    print(f"ours, written to Parquet:        {1e6 * result['ours_seconds_per_user']:8.1f} microseconds per user")
    print(f"ratio to the fastest:            {result['ratio']:8.1f}")
    peak, before = result["peak_bytes"] / 2**30, result["peak_bytes_before"] / 2**30
    print(f"peak memory: {peak:.2f} GiB, {before:.2f} GiB before the lists")
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
