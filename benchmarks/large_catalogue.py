"""Peak memory and time of preparing, training, testing and recommending on large catalogues, part by part.

    python benchmarks/large_catalogue.py --sizes 10000x300x8 100000x300x8 --json table.json --plot chart.png
    python benchmarks/large_catalogue.py --sizes 1000000x100000x8 --untested -- --users_per_batch=256

For each size (items, users and groups) it makes a synthetic data set in a temporary folder: titles of four to fifteen
words, a few hundred different pictures that all items share by their column, fifteen purchases of each user, and a tiny
random CLIP. All items are in the catalogue (``unbought_items``), so they have rows in every table and are ranked. Then
a fresh process prepares the content, trains an epoch of stage 1 and, with more than one group, one of stage 3, tests,
and makes lists of ten items for all users, 10,000 of them at most. Words after ``--`` are settings of the run. It says
after each part the most memory that it held resident until then, pages of memory maps and of shared libraries among it,
and seconds: those of the table are the processor's, which other work on the machine disturbs little.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

NAME = "large"
PICTURES = 300
PURCHASES = 15  # of a user
SIDE = 28  # pixels of a picture, and of what the encoder reads
SEED = 2026
LISTED = 10_000  # users who get lists, at most
GIB = 2**30
COLUMNS = ("items", "users", "groups", "prepare s", "epochs s", "test s", "lists s", "peak GiB", "disk GiB")


def size(text: str) -> tuple[int, int, int]:
    """``1000x300x8`` as items, users and groups."""
    items, users, groups = map(int, text.split("x"))
    return items, users, groups


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=size, nargs="+", default=[(200_000, 3_000, 8)], help="items x users x groups")
    parser.add_argument("--peft_type", choices=("IISAN", "LORA", "NONE"), default="IISAN")
    parser.add_argument("--modalities", choices=("image", "text"), nargs="+", default=["image", "text"])
    parser.add_argument("--untested", action="store_true", help="no test, which takes as long as a validation")
    parser.add_argument("--threads", type=int, default=1, help="of torch and of those that open pictures")
    parser.add_argument("--scratch", type=Path, help="folder for the data sets, which are removed again")
    parser.add_argument("--json", type=Path, help="file for all figures; what it has already is not measured again")
    parser.add_argument("--plot", type=Path, help="file for a chart of the peaks")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the process that is measured
    parser.add_argument("words", nargs="*", help="settings of the run, after --")
    return parser.parse_args(arguments)


def make_data(folder: Path, n_items: int, n_users: int) -> None:
    """Write purchases, titles, pictures and an encoder to ``<folder>/large/``."""
    import numpy as np
    from PIL import Image

    from benchmarks.startup import WORDS, save_tiny_clip

    place, rng, words = folder / NAME, np.random.default_rng(SEED), WORDS.split()
    (place / "images").mkdir(parents=True)
    for number in range(PICTURES):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"{number}.png")
    with (place / f"{NAME}.item").open("w", encoding="utf-8") as file:
        file.write("item_id:token\ttitle:token_seq\tpicture:token\n")
        for item in range(n_items):
            title = " ".join(words[word] for word in rng.integers(0, len(words), rng.integers(4, 16)))
            file.write(f"i{item}\t{title}\timages/{item % PICTURES}.png\n")
    with (place / f"{NAME}.inter").open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user in range(n_users):
            for second, item in enumerate(dict.fromkeys(rng.integers(0, n_items, PURCHASES).tolist())):
                file.write(f"u{user}\ti{item}\t{second}\n")
    save_tiny_clip(place / "encoder", SIDE)


def train(values: argparse.Namespace) -> dict:
    """Prepare, train, test and recommend in this process.

    Returns
    -------
    dict
        Of each part: seconds that it took, by the clock and of the processor, and the most bytes that were held until
        its end.
    """
    started, used, parts = time.time(), 0.0, {}
    import torch

    from benchmarks.machine import peak_bytes
    from recbole_perpeft import quick_start
    from recbole_perpeft.config import Config
    from recbole_perpeft.serving.opening import Opened
    from recbole_perpeft.serving.recommender import Recommender

    torch.set_num_threads(values.threads)

    def done(part: str) -> None:
        nonlocal started, used
        seconds = {"seconds": time.time() - started, "processor_seconds": time.process_time() - used}
        parts[part] = {**seconds, "peak_bytes": peak_bytes(torch.device("cpu"))}
        print(f"{part}: {json.dumps(parts[part])}", file=sys.stderr, flush=True)
        started, used = time.time(), time.process_time()

    done("imports")
    ((_, _, groups),) = values.sizes
    settings = {
        "data_path": str(values.folder),
        "content_cache": str(values.folder / "cache"),
        "content_workers": values.threads,
        "encoder": "encoder",
        "image_field": "picture",
        "unbought_items": True,
        "modalities": values.modalities,
        "peft_type": values.peft_type,
        "num_groups": groups,
        "epochs": min(groups, 2),
        "checkpoint_dir": str(values.folder / "saved"),
        "show_progress": False,
        "use_gpu": False,
    }
    config = Config("PerPEFTSASRec", NAME, config_dict=settings, command_line=values.words)
    _, trainer, *loaders = quick_start.prepare(config)
    done("data, content and model")
    trainer.fit(*loaders[:2], callback_fn=lambda epoch, score: done(f"epoch {epoch}, with validation"))
    done("groups' shares and checkpoint" if config["eval_step"] else "epochs, without validation")
    if not values.untested:
        trainer.evaluate(loaders[2])
        done("test")
    trained = Opened.of(config, trainer.model, [loader._dataset for loader in loaders])
    del trainer, loaders  # lists are made without an optimiser
    recommender = Recommender(trained)
    for _ in recommender.blocks(recommender.users[:LISTED]):
        pass
    done("lists")
    return parts


def measure(n_items: int, n_users: int, n_groups: int, values: argparse.Namespace) -> dict:
    """One size, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=values.scratch) as name:
        make_data(Path(name), n_items, n_users)
        command = [sys.executable, __file__, "--folder", name, "--sizes", f"{n_items}x{n_users}x{n_groups}"]
        command += ["--modalities", *values.modalities, *["--untested"] * values.untested]
        for option in ("peft_type", "threads"):
            command += [f"--{option}", str(getattr(values, option))]
        command += ["--", *values.words]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=name, env=environment)
        held = sum(file.stat().st_size for file in Path(name, "cache").rglob("*.npy"))
    parts = json.loads(ended.stdout.splitlines()[-1])
    peak = max(part["peak_bytes"] for part in parts.values())
    return {
        "items": n_items,
        "users": n_users,
        "groups": n_groups,
        "words": values.words,
        "parts": parts,
        "peak_bytes": peak,
        "disk_bytes": held,
    }


def row_of(run: dict) -> list[str]:
    """What the table says of a run."""
    parts = {name: part["processor_seconds"] for name, part in run["parts"].items()}
    epochs = sum(seconds for name, seconds in parts.items() if name.startswith("epoch"))
    seconds = parts["data, content and model"], epochs, parts.get("test", 0), parts["lists"]
    sizes = [f"{run[name]:,}" for name in ("items", "users", "groups")]
    return [
        *sizes,
        *(f"{each:.0f}" for each in seconds),
        *(f"{run[of] / GIB:.2f}" for of in ("peak_bytes", "disk_bytes")),
    ]


def draw(runs: list[dict], file: Path) -> None:
    """Peaks against items, a line for each number of users and groups."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for users, groups in sorted({(run["users"], run["groups"]) for run in runs}):
        own = sorted(
            (run["items"], run["peak_bytes"] / GIB) for run in runs if (run["users"], run["groups"]) == (users, groups)
        )
        axes.plot(*zip(*own, strict=True), marker="o", label=f"{users:,} users, {groups} groups")
    axes.set(xscale="log", xlabel="items", ylabel="peak memory, GiB", ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    values = parse(arguments)
    if values.folder:
        print(json.dumps(train(values)))
        return
    from recbole_perpeft.experiments.tables import pipes

    settings = {name: getattr(values, name) for name in ("peft_type", "modalities", "threads")}
    result = {"settings": settings, "runs": []}
    if values.json and values.json.is_file():
        result = json.loads(values.json.read_text(encoding="utf-8"))
    known = [(run["items"], run["users"], run["groups"], run["words"]) for run in result["runs"]]
    for each in values.sizes:
        if (*each, values.words) not in known:
            result["runs"].append(measure(*each, values))
        if values.json:
            values.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(pipes(COLUMNS, list(map(row_of, result["runs"]))))
    if values.plot:
        draw(result["runs"], values.plot)


if __name__ == "__main__":
    main()
