"""What a user who did not train gets from their group: held out altogether, and training users whose group is hidden.

    python benchmarks/new_users.py --dataset demo --seeds 2020 2021 2022 2023 2024 --out results/new-users --jobs 4

For each seed a share of the users is held out: none of their purchases is training or validation data, a negative of a
group, or seen in grouping. PerPEFT and global PEFT are trained on the others, from one and the same stage 1. Then the
last purchase of each held-out user is ranked from those before it (which are masked), under the group that is assigned
to them, under a group by chance, by global PEFT, and by a training that they were part of. And the training users'
groups are hidden: printed is the share that gets the same group back from the training purchases.

Every run is a process and leaves its result in ``--out``; those that are there are not repeated. Words such as
--epochs=2 are settings of all runs. At the end come ``table.json`` and ``table.md``: means over the seeds, and p of a
t-test over the users (each one's difference averaged over the seeds that held them out) and over the seeds.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from recbole.utils import init_seed

from recbole_perpeft.config import Config
from recbole_perpeft.config.identity import data_identity, encoder_identity
from recbole_perpeft.config.settings import settings_of
from recbole_perpeft.data.preparation import create_dataset, data_preparation
from recbole_perpeft.experiments.significance import difference
from recbole_perpeft.experiments.tables import pipes
from recbole_perpeft.experiments.worker import gain, ranks_of_targets
from recbole_perpeft.trainer import stage_1_cache
from recbole_perpeft.trainer.trainer import PerPEFTTrainer

VARIANTS = {
    "likeness": {"grouping": "likeness", "regroup_epochs": None},
    "coherence, regrouped": {"grouping": "coherence", "regroup_epochs": 2},
    "coherence": {"grouping": "coherence", "regroup_epochs": None},
    "kmeans, regrouped": {"grouping": "kmeans", "regroup_epochs": 2},
    "kmeans": {"grouping": "kmeans", "regroup_epochs": None},
    "random, regrouped": {"grouping": "random", "regroup_epochs": 2},
    "random": {"grouping": "random", "regroup_epochs": None},
    "likeness, trained on them": {"grouping": "likeness", "regroup_epochs": None},
    "coherence, trained on them": {"grouping": "coherence", "regroup_epochs": None},
    "kmeans, trained on them": {"grouping": "kmeans", "regroup_epochs": None},
    "global PEFT": {"num_groups": 1},
}
GLOBAL = "global PEFT"
_TRAINED = "trained on them"  # the same users' last purchases, by a training that holds nobody out
METRIC = "NDCG@20"


def chosen_users(dataset, share: float, seed: int) -> np.ndarray:
    """Ids of ``share`` of the users."""
    users = np.arange(1, dataset.user_num)
    return np.random.default_rng([seed, 1]).choice(users, size=round(share * len(users)), replace=False)


def hold_out(dataset, held: np.ndarray) -> None:
    """Let ``dataset`` be split without the users ``held`` in training and validation."""
    build = dataset.build

    def without(part):
        kept = ~np.isin(part.inter_feat[part.uid_field].numpy(), held)
        return part.copy(part.inter_feat[np.flatnonzero(kept)])

    def build_without() -> list:
        train, valid, test = build()
        return [without(train), without(valid), test]

    dataset.build = build_without


def prepare_without(config: Config, share: float, trained: bool = False) -> tuple:
    """Ids of ``share`` of the users, a trainer, and its loaders, which are without them but for the test's.

    With ``trained`` they are in all loaders.
    """
    init_seed(config["seed"], config["reproducibility"])
    data = create_dataset(config)
    inputs = data_identity(config, data)
    held = chosen_users(data, share, config["seed"])
    if not trained:
        hold_out(data, held)
    loaders = data_preparation(config, data)
    init_seed(config["seed"], config["reproducibility"])
    net = config.model_class(config, loaders[0]._dataset).to(config["device"])
    trainer = PerPEFTTrainer(config, net)
    trainer.checkpoint.identity = inputs | encoder_identity(net.item_tower.encoder)
    return held, trainer, *loaders


def measure(model: str, dataset: str, settings: dict, share: float, stage_1_file: Path, trained: bool) -> dict:
    """Train on all but the held-out users, on these too if ``trained``, and rank their last purchases."""
    config = Config(model, dataset, config_dict={**settings, "show_progress": False})
    held, trainer, train_data, valid_data, test_data = prepare_without(config, share, trained)
    net, data = trainer.model, test_data._dataset
    stage_1_cache.share(trainer, stage_1_file)
    score, _ = trainer.fit(train_data, valid_data, saved=False)
    trainer.restore_best()
    net.eval()
    tokens = data.id2token(data.uid_field, sorted(held)).tolist()

    def ranks() -> dict[str, float]:
        test_data.order_by(net.user_groups.cpu().numpy())
        found = ranks_of_targets(trainer, test_data)
        return {token: found[token][1] for token in tokens if token in found}

    result = {"valid": float(score), "best_epoch": trainer.best_epoch, "ranks": ranks()}
    if config["num_groups"] > 1 and not trained:
        result |= _of_groups(net, train_data, sorted(held), config["seed"], ranks)
    return result


def _of_groups(net, train_data, held: list[int], seed: int, ranks) -> dict:
    """Held-out users under groups by chance, and the training users' groups against those assigned to them."""
    users = torch.tensor(list(train_data.histories), device=net.user_groups.device)
    groups = net.user_groups[users]
    if not net.is_grouped:
        raise SystemExit("Stage 3 was never reached.")
    assigned = _assigned(net, train_data.histories)
    drawn = np.random.default_rng([seed, 2]).integers(net.num_groups, size=len(held))
    net.move(np.array(held), drawn)
    by_chance = ranks()
    by_group = []
    for group in range(net.num_groups):
        net.move(np.array(held), np.full(len(held), group))
        by_group.append(ranks())
    net.move(np.array(held), np.full(len(held), -1))
    sizes = torch.bincount(groups, minlength=net.num_groups).tolist()
    return {
        "by_chance": by_chance,
        "by_group": by_group,
        "regroupings": int(net.regroupings),
        "sizes": sizes,
        "largest": max(sizes) / sum(sizes),
        "comes_back": float((assigned == groups).float().mean()),
    }


def _assigned(net, histories: dict[int, np.ndarray]) -> torch.Tensor:
    """The groups that users with these purchases would get, were they new, ``[n]``."""
    device = net.user_groups.device
    padded = np.zeros((len(histories), max(map(len, histories.values()))), dtype=np.int64)
    for row, items in enumerate(histories.values()):
        padded[row, : len(items)] = items
    length = getattr(net, "max_seq_length", padded.shape[1])
    if padded.shape[1] > length:  # a sequential model is given so many of the last purchases
        padded = np.stack([np.pad(items[-length:], (0, max(0, length - len(items)))) for items in histories.values()])
    users = torch.tensor(list(histories), device=device)
    return net.groups_of_new(users, torch.from_numpy(padded).to(device))


def _summary(out: Path, seeds: Sequence[int], variants: Sequence[str]) -> None:
    results = {name: [json.loads(_file(out, name, seed).read_text()) for seed in seeds] for name in variants}
    rows, lines = [], []
    for name, of_seeds in results.items():
        row = {"ndcg": _mean(r["ranks"] for r in of_seeds), "valid": float(np.mean([r["valid"] for r in of_seeds]))}
        if "by_chance" in of_seeds[0]:
            chance = [{"ranks": r["by_chance"]} for r in of_seeds]
            row |= {key: float(np.mean([r[key] for r in of_seeds])) for key in ("comes_back", "largest")}
            row["comes_back_by_seed"] = [r["comes_back"] for r in of_seeds]
            row["by_chance"] = _mean(r["ranks"] for r in chance)
            row["mean_of_groups"] = float(np.mean([_mean(r["by_group"]) for r in of_seeds]))
            row["to_chance"] = vars(difference(of_seeds, chance, METRIC))
            if GLOBAL in results:
                row["to_global"] = vars(difference(of_seeds, results[GLOBAL], METRIC))
            if (other := f"{name}, {_TRAINED}") in results:
                row["to_trained"] = vars(difference(of_seeds, results[other], METRIC))
        rows.append({"groups": name, **row})
        lines.append([name, f"{row['ndcg']:.4f}", *_cells(row)])
    header = [
        "groups", f"{METRIC}, group assigned", "by chance", "mean of all groups", "assigned - by chance",
        "assigned - global PEFT", "assigned - trained on them", "hidden groups that come back", "in the largest group",
    ]  # fmt: skip
    (out / "table.json").write_text(json.dumps({"seeds": list(seeds), "rows": rows}, indent=1))
    table = pipes(header, lines)
    (out / "table.md").write_text(table + "\n")
    print(table)


def _mean(ranks) -> float:
    return float(np.mean([np.mean([gain(METRIC, rank) for rank in of.values()]) for of in ranks]))


def _cells(row: dict) -> list[str]:
    if "by_chance" not in row:
        return [""] * 7
    differences = [_difference(row.get(key)) for key in ("to_chance", "to_global", "to_trained")]
    shares = [f"{100 * row[key]:.1f} %" for key in ("comes_back", "largest")]
    return [f"{row['by_chance']:.4f}", f"{row['mean_of_groups']:.4f}", *differences, *shares]


def _difference(found: dict | None) -> str:
    if not found:
        return ""
    p = [f"{found[key]:.3f}" if found[key] is not None else "-" for key in ("p_users", "p_seeds")]
    return f"{found['mean']:+.4f} (p {p[0]} over users, {p[1]} over seeds)"


def _file(out: Path, variant: str, seed: int) -> Path:
    return out / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}.json"


def _in_a_process(arguments: argparse.Namespace, words: Sequence[str], variant: str, seed: int) -> None:
    target = _file(arguments.out, variant, seed)
    if target.is_file():
        return
    command = [
        sys.executable, __file__, "--dataset", arguments.dataset, "--model", arguments.model, "--seeds", str(seed),
        "--share", str(arguments.share), "--out", str(arguments.out), "--one", variant, *words,
    ]  # fmt: skip
    with open(target.with_suffix(".log"), "w") as log:
        failed = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    print(f"{variant} · seed {seed}: {'failed, see ' + log.name if failed else 'done'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--model", default="PerPEFTSASRec")
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022, 2023, 2024])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--share", type=float, default=0.2, help="of the users, held out")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, required=True, help="folder; runs that it holds are not repeated")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a process of its own runs a variant for a seed
    arguments, words = parser.parse_known_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        _one(arguments, words)
        return
    with ThreadPoolExecutor(arguments.jobs) as pool:
        first, *others = arguments.variants  # the first of a seed leaves its stage 1 for the others
        list(pool.map(lambda seed: _in_a_process(arguments, words, first, seed), arguments.seeds))
        rest = [(variant, seed) for seed in arguments.seeds for variant in others]
        list(pool.map(lambda job: _in_a_process(arguments, words, *job), rest))
    complete = [s for s in arguments.seeds if all(_file(arguments.out, v, s).is_file() for v in arguments.variants)]
    if complete:
        _summary(arguments.out, complete, arguments.variants)
    if len(complete) < len(arguments.seeds):
        sys.exit(1)


def _one(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    seed = arguments.seeds[0]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    settings = {"seed": seed, **settings_of(words), **VARIANTS[arguments.one]}
    trained = arguments.one.endswith(_TRAINED)
    stage_1_file = arguments.out / f"stage_1{'-of-all' if trained else ''}-{seed}.pth"
    with tempfile.TemporaryDirectory() as folder:
        settings["checkpoint_dir"] = folder
        result = measure(arguments.model, arguments.dataset, settings, arguments.share, stage_1_file, trained)
    target = _file(arguments.out, arguments.one, seed)
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(result))
    os.replace(partial, target)


if __name__ == "__main__":
    main()
