"""How many times an epoch encodes the catalogue, by how many batches' items are encoded together.

    python benchmarks/passes.py --shops 15701x25363 --datasets demo --json passes.json
    python benchmarks/passes.py --datasets amazon-scientific --data_path /path/to/datasets
    python benchmarks/passes.py --timed 4000x6400 --turns 3
    python benchmarks/passes.py --timed demo --stage 3 --turns 5

counts the different items of the batches that are encoded together (a window) over all windows of an epoch, in times of
the catalogue: on synthetic shops (items x users; python -m dataset.make.demo, at any size) and on data sets, with the
package's own batches and default settings. In stage 1 all users are in one group. In stage 3 they are in groups of one
size: of like interests in a shop, whose generator knows them; by chance in a data set. A window of ~ batches is what
batches_per_encoding: ~ makes it, and of its items the share is counted that is encoded; all is what a group's modules
would encode at least, were all items encoded. No encoder runs for that.

--timed trains epochs of a stage on a shop or the demo, LoRA on the demo's encoder: with windows of 8 batches, of ~, and
of ~ whose items are all kept in memory, in turn. Seconds are the processor's.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks and dataset, which are not installed

import numpy as np  # noqa: E402

from benchmarks.ratios import in_words, ratios  # noqa: E402
from benchmarks.sides import SEED  # noqa: E402
from benchmarks.synthetic import NAME, Shop, make_shop  # noqa: E402
from recbole_perpeft.config import Config  # noqa: E402
from recbole_perpeft.data.dataloader import UserBatchLoader  # noqa: E402
from recbole_perpeft.data.preparation import create_dataset, data_preparation  # noqa: E402
from recbole_perpeft.quick_start import prepare  # noqa: E402
from recbole_perpeft.trainer.stage import Stage  # noqa: E402

_FIXED = (1, 8, 16, 32, 64)
_PICTURES = 50  # of a shop, whose items share them: nobody looks at them


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shops", nargs="*", default=[], metavar="ITEMSxUSERS", help="synthetic ones")
    parser.add_argument("--datasets", nargs="*", default=[], help="data sets")
    parser.add_argument("--data_path", help="where the data sets are, but for the demo")
    parser.add_argument("--groups", type=int, default=8, help="of stage 3")
    parser.add_argument("--timed", metavar="ITEMSxUSERS", help="a synthetic shop whose epochs are timed, or demo")
    parser.add_argument("--stage", type=int, choices=[1, 3], default=1, help="of what is timed")
    parser.add_argument("--turns", type=int, default=3, help="epochs of each, after one that is not counted")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(arguments)


def _config(dataset: str, data_path: str | None = None, **settings) -> Config:
    place = {} if data_path is None else {"data_path": data_path}
    settings = {"seed": SEED, "use_gpu": False, "show_progress": False, **place, **settings}
    return Config("PerPEFTSASRec", dataset, config_dict=settings)


def _loader(dataset: str, data_path: str | None) -> UserBatchLoader:
    config = _config(dataset, data_path)
    return data_preparation(config, create_dataset(config))[0]


def _by_chance(user_tokens: np.ndarray, num_groups: int) -> np.ndarray:
    """Groups of one size, ``[n_users]``."""
    groups = np.zeros(len(user_tokens), dtype=np.int64)
    order = 1 + np.random.default_rng(SEED).permutation(len(user_tokens) - 1)
    groups[order] = np.arange(len(order)) * num_groups // len(order)
    return groups


def _loaders(values: argparse.Namespace) -> Iterator[tuple[str, UserBatchLoader, np.ndarray]]:
    """Name, training batches and groups of stage 3 of everything that is counted."""
    for sizes in values.shops:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            shop = _shop(folder, sizes)
            items, _ = sizes.split("x")
            loader = _loader(NAME, folder)
            yield f"a shop of {items} items", loader, shop.groups(_users(loader), values.groups)
    for dataset in values.datasets:
        loader = _loader(dataset, None if dataset == "demo" else values.data_path)
        yield dataset, loader, _by_chance(_users(loader), values.groups)


def _shop(folder: str, sizes: str) -> Shop:
    items, users = map(int, sizes.split("x"))
    return make_shop(Path(folder), "demo", items, users, min(_PICTURES, items), SEED)


def _users(loader: UserBatchLoader) -> np.ndarray:
    return loader._dataset.field2id_token[loader._dataset.uid_field]


def passes(loader: UserBatchLoader, together: int, share: float = 1.0) -> dict[str, float]:
    """The windows of an epoch of so many batches each, items of the largest, and passes of which ``share`` is left."""
    loader.set_epoch(0)
    sizes = [len(np.unique(np.concatenate([batch.items for batch in window]))) for window in loader.windows(together)]
    of_all = share * sum(sizes) / (loader._dataset.item_num - 1)
    return {"windows": len(sizes), "largest": max(sizes), "share": share, "passes": of_all}


def count(loader: UserBatchLoader, groups: np.ndarray) -> dict[str, dict]:
    """Passes of both stages by how many batches are encoded together."""
    found = {}
    for stage, of_users in {"stage 1": np.zeros_like(groups), "stage 3": groups}.items():
        loader.set_groups(of_users, group_negatives=False)
        sizes = {str(number): (number, 1.0) for number in _FIXED} | {"~": loader.encoding, "all": (len(loader), 1.0)}
        found[stage] = {name: {"together": size[0], **passes(loader, *size)} for name, size in sizes.items()}
    return found


def timed(sizes: str, turns: int, stage: int, num_groups: int) -> list[dict]:
    """Processor seconds of epochs under each setting, and the items that one encodes."""
    sides = {"8 batches": {"batches_per_encoding": 8}, "~": {}, "~, all kept": {"encoding_batch_size": 10**9}}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        place, dataset = {"content_cache": str(Path(folder) / "content")}, "demo"
        if sizes != "demo":
            place["encoder"], place["data_path"], dataset = str(_shop(folder, sizes).encoder), folder, NAME
        place["num_groups"] = num_groups if stage == 3 else 1
        prepared = {name: prepare(_config(dataset, **place, **settings)) for name, settings in sides.items()}
        for _, trainer, train_data, *_ in prepared.values():
            if stage == 3:
                groups = _by_chance(_users(train_data), num_groups)
                users = np.fromiter(train_data.histories, dtype=np.int64)
                trainer.model.personalise(users, groups[users])
                train_data.set_groups(groups, group_negatives=False)
                trainer.begin_stage(Stage.PERSONALISED)
        rows = [{"row": f"stage {stage}, {name}, of {sizes}", "seconds": []} for name in sides]
        for epoch in range(turns + 1):
            for row, (_, trainer, train_data, *_) in zip(rows, prepared.values(), strict=True):
                start = time.process_time()
                trainer._train_epoch(train_data, epoch)
                row["items encoded"] = trainer._items_encoded
                row["seconds"] += [time.process_time() - start] if epoch else []
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Count, print and write."""
    values = parse(arguments)
    json_file, rows = values.json and values.json.resolve(), []
    for name, loader, groups in _loaders(values):
        sizes = {"items": loader._dataset.item_num - 1, "users": len(loader.users), "groups": values.groups}
        rows += [
            {"row": f"{name}, {stage}", **sizes, "windows": counted} for stage, counted in count(loader, groups).items()
        ]
    if rows:
        _print(rows)
    if values.timed:
        of_sides = timed(values.timed, values.turns, values.stage, values.groups)
        print("| an epoch of | items encoded | processor s | in times of 8 batches |\n| --- | --- | --- | --- |")
        for row in of_sides:
            times = in_words(ratios(row["seconds"], of_sides[0]["seconds"]))
            seconds = statistics.median(row["seconds"])
            print(f"| {row['row']} | {row['items encoded']:,} | {seconds:.1f} | {times} |")
        rows += of_sides
    if json_file:
        json_file.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


def _print(rows: list[dict]) -> None:
    columns = [*map(str, _FIXED), "~", "all"]
    print(f"| | items | users | {' | '.join(columns)} | batches of ~ | share of ~ |\n|{' --- |' * (5 + len(columns))}")
    for row in rows:
        cells = [f"{row['windows'][column]['passes']:.2f}" for column in columns]
        of_default = row["windows"]["~"]
        cells += [str(of_default["together"]), f"{of_default['share']:.2f}"]
        print(f"| {row['row']} | {row['items']:,} | {row['users']:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
