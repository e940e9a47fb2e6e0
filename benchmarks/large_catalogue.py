"""Peak memory of preparing and training on a large catalogue, part by part.

    python benchmarks/large_catalogue.py --items 200000 --users 3000 --json memory.json

Makes a synthetic data set in a temporary folder: titles of four to fifteen words, a few hundred different pictures that
all items share by their column, fifteen purchases of each user, and a tiny random CLIP. All items are in the catalogue
(``unbought_items``), so they have rows in every table and are ranked. Then a fresh process
prepares the content, trains an epoch of stage 1 and one of stage 3 with eight groups, and tests, and says after each
part the most memory that it held resident until then, pages of memory maps and of shared libraries among it. The peak
of the whole is what the system says of that process and of any that it started.
"""

import argparse
import json
import os
import resource
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


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--peft_type", choices=("IISAN", "NONE"), default="IISAN")
    parser.add_argument("--modalities", choices=("image", "text"), nargs="+", default=["image", "text"])
    parser.add_argument("--threads", type=int, default=1, help="of torch and of those that open pictures")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the process that is measured
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
    """Prepare, train and test in this process.

    Returns
    -------
    dict
        Of each part: seconds that it took, and the most bytes that were held until its end.
    """
    started, parts = time.time(), {}
    import torch

    from benchmarks.machine import peak_bytes
    from recbole_perpeft import quick_start
    from recbole_perpeft.config import Config

    torch.set_num_threads(values.threads)

    def done(part: str) -> None:
        nonlocal started
        parts[part] = {"seconds": time.time() - started, "peak_bytes": peak_bytes(torch.device("cpu"))}
        print(f"{part}: {json.dumps(parts[part])}", file=sys.stderr, flush=True)
        started = time.time()

    done("imports")
    settings = {
        "data_path": str(values.folder),
        "content_cache": str(values.folder / "cache"),
        "content_workers": values.threads,
        "encoder": "encoder",
        "image_field": "picture",
        "unbought_items": True,
        "modalities": values.modalities,
        "peft_type": values.peft_type,
        "epochs": 2,
        "checkpoint_dir": str(values.folder / "saved"),
        "show_progress": False,
        "use_gpu": False,
    }
    config = Config("PerPEFTSASRec", NAME, config_dict=settings)
    _, trainer, train_data, valid_data, test_data = quick_start.prepare(config)
    done("data, content and model")
    trainer.fit(train_data, valid_data, callback_fn=lambda epoch, score: done(f"epoch {epoch}, with validation"))
    done("groups' shares and checkpoint")
    trainer.evaluate(test_data)
    done("test")
    return parts


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    values = parse(arguments)
    if values.folder:
        print(json.dumps(train(values)))
        return
    with tempfile.TemporaryDirectory() as name:
        make_data(Path(name), values.items, values.users)
        command = [sys.executable, __file__, "--folder", name, "--modalities", *values.modalities]
        for option in ("items", "users", "peft_type", "threads"):
            command += [f"--{option}", str(getattr(values, option))]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=name, env=environment)
        held = sum(file.stat().st_size for file in Path(name, "cache").rglob("*.npy"))
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    result = {
        "settings": {name: getattr(values, name) for name in ("items", "users", "peft_type", "modalities", "threads")},
        "parts": json.loads(ended.stdout.splitlines()[-1]),
        "peak_bytes": of_children,
        "cache_bytes": held,
    }
    print(f"{values.items} items, {values.users} users, {values.peft_type}, {' and '.join(values.modalities)}")
    for part, of in result["parts"].items():
        print(f"{part:34} {of['seconds']:7.1f} s   {of['peak_bytes'] / 2**30:5.2f} GiB at most until then")
    print(f"peak of all processes: {of_children / 2**30:.2f} GiB; content on disk: {held / 2**30:.2f} GiB")
    if values.json:
        values.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
