"""How long a run takes to its first training step, with and without a cache of its pictures and texts.

    python benchmarks/startup.py --items 20000 --side 224 --users 20000 --json startup.json

Makes a synthetic data set in a temporary folder: JPEG pictures of about 500 x 500 pixels (``DISTINCT`` different ones,
hard-linked to as many names as there are items, so the files come from memory and not from the disk), titles, purchases
and a tiny random CLIP. Then, each in a fresh process:

- pictures per second of the pixel store against a loop that opens, decodes, resizes and crops with Pillow alone, on as
  many threads and on as many processes as there are CPUs; in turns, slice by slice, so that other work on the machine
  slows all three alike, and the ratios are medians over the slices;
- the seconds from the start of the process to the end of the first training step, part by part: once without the cache,
  then with it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

NAME = "startup"
DISTINCT = 400
SLICES = 10
PICTURE_SIZES = ((500, 500), (500, 400), (400, 500), (560, 448))
WORDS = "red blue green golf camp wool steel bag tent ball lamp shoe hat small large kit for with and set"
N_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# -- the synthetic data set ---------------------------------------------------------------------------------------


def make_data(folder: Path, n_items: int, n_users: int, side: int) -> None:
    """Write pictures, titles, purchases and an encoder to ``<folder>/startup/``."""
    rng = np.random.default_rng(0)
    place = folder / NAME
    images = place / "images"
    images.mkdir(parents=True)
    items = [f"B{number:08d}" for number in range(n_items)]
    for number, item in enumerate(items):
        file = images / f"{item}.jpg"
        if number < DISTINCT:
            draw_picture(rng, PICTURE_SIZES[number % len(PICTURE_SIZES)]).save(file, quality=85)
        else:
            file.hardlink_to(images / f"{items[number % DISTINCT]}.jpg")
    titles = [" ".join(rng.choice(WORDS.split(), size=rng.integers(4, 16))) for _ in items]
    rows = [f"{item}\t{title}\n" for item, title in zip(items, titles, strict=True)]
    (place / f"{NAME}.item").write_text("item_id:token\ttitle:token_seq\n" + "".join(rows))
    with open(place / f"{NAME}.inter", "w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user in range(n_users):
            bought = rng.choice(n_items, size=rng.integers(5, 13), replace=False)
            file.writelines(f"u{user}\t{items[item]}\t{second}\n" for second, item in enumerate(bought))
    save_tiny_clip(place / "encoder", side)


def draw_picture(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Coloured ellipses on blurred blocks, with noise: it compresses about as a photograph does."""
    width, height = size
    blocks = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    picture = Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, extent = rng.integers(0, 400), rng.integers(0, 400), rng.integers(20, 150)
        draw.ellipse([x, y, x + extent, y + extent], fill=tuple(rng.integers(0, 256, 3).tolist()))
    noisy = np.asarray(picture) + rng.normal(0, 6, (height, width, 1))  # [h, w, 3]
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def save_tiny_clip(folder: Path, side: int) -> None:
    """Save a random CLIP, two layers of width 64, that reads pictures of ``side`` x ``side`` pixels."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

    pad, start, end = "<pad>", "<start>", "<end>"
    tokens = [pad, "<unknown>", start, *WORDS.split(), end]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(token, tokens.index(token)) for token in (start, end)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=pad, bos_token=start, eos_token=end, model_max_length=32
    )
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    text = {**tower, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 32}
    vision = {**tower, "image_size": side, "patch_size": side // 7}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    crop = {"height": side, "width": side}
    CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=crop).save_pretrained(folder)


# -- measurements, each in a process of its own ------------------------------------------------------------------


def resize_all(files: list[str], side: int) -> None:
    """Open, decode, resize and crop as CLIP's processor does."""
    for file in files:
        with Image.open(file) as picture:
            width, height = picture.size
            scaled = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
            left, top = (scaled[0] - side) // 2, (scaled[1] - side) // 2
            resized = picture.resize(scaled, Image.Resampling.BICUBIC)
            resized.crop((left, top, left + side, top + side)).load()


def pictures(folder: Path, side: int) -> dict[str, list[float]]:
    """Pictures per second of Pillow alone and of the pixel store, one figure per slice of the pictures."""
    files = sorted((folder / NAME / "images").iterdir())
    rates: dict[str, list[float]] = {"Pillow, threads": [], "Pillow, processes": [], "pixel store": []}
    with ThreadPoolExecutor(N_CPUS) as threads, ProcessPoolExecutor(N_CPUS) as processes:
        list(processes.map(resize_all, [[]] * N_CPUS, [side] * N_CPUS))  # forked before torch is imported
        from transformers import CLIPImageProcessorPil

        from recbole_perpeft.content.pixels import ensure_pixels

        processor = CLIPImageProcessorPil.from_pretrained(folder / NAME / "encoder")

        def store(part: list[Path]) -> None:
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                names = [file.stem for file in part]
                ensure_pixels(Path(cache), names, part, processor, show_progress=False)

        ways = (partial(pillow, threads, side), partial(pillow, processes, side), store)
        for part in np.array_split(np.array(files, dtype=object), SLICES):
            for kind, way in zip(rates, ways, strict=True):
                began = time.perf_counter()
                way(part.tolist())
                rates[kind].append(len(part) / (time.perf_counter() - began))
    return rates


def pillow(pool: Executor, side: int, files: list[Path]) -> None:
    """Resize all files on a pool."""
    chunks = [[str(file) for file in files[start : start + 32]] for start in range(0, len(files), 32)]
    list(pool.map(resize_all, chunks, [side] * len(chunks)))


def start(folder: Path, started: float) -> dict[str, float]:
    """Seconds of each part of a run up to the end of its first training step."""
    seconds: dict[str, float] = {}

    def timed(owner, name: str, part: str) -> None:
        function = getattr(owner, name)

        def measured(*args, **kwargs):
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] = time.perf_counter() - began

        setattr(owner, name, measured)

    from recbole_perpeft import quick_start
    from recbole_perpeft.content import prepare as content
    from recbole_perpeft.model import tower_factory as model
    from recbole_perpeft.trainer import factory

    seconds["imports"] = time.time() - started
    timed(factory, "create_dataset", "data set")
    timed(factory, "data_preparation", "split and loaders")
    timed(model, "load_foundation", "foundation model")
    timed(model, "prepare_content", "content")
    timed(content, "ensure_pixels", "content: pixels")
    timed(content, "ensure_tokens", "content: tokens")
    timed(content, "read_item_texts", "content: item file")

    began = time.perf_counter()
    settings = {"data_path": str(folder), "content_cache": str(folder / "cache"), "show_progress": False}
    settings |= {"encoder": "encoder", "checkpoint_dir": str(folder / "saved"), "state": "ERROR", "use_gpu": False}
    config = quick_start.Config("PerPEFTSASRec", NAME, config_dict=settings)
    seconds["settings"] = time.perf_counter() - began

    began = time.perf_counter()
    _, trainer, train_data, _, _ = quick_start.prepare(config)
    seconds["prepare"] = time.perf_counter() - began
    parts = ("data set", "split and loaders", "foundation model", "content")
    seconds["backbone, PEFT and trainer"] = seconds["prepare"] - sum(seconds[part] for part in parts)

    began = time.perf_counter()
    trainer.model.train()
    loss = trainer.model.calculate_loss(next(iter(train_data)).to(trainer.device))
    loss.backward()
    trainer.optimizer.step()
    seconds["first step"] = time.perf_counter() - began
    seconds["in all"] = time.time() - started
    seconds["in all, processor time"] = time.process_time()  # tells a busy machine from a slow start
    return seconds


def in_fresh_process(measurement: str, folder: Path, side: int) -> dict:
    """What a measurement gives in a process of its own."""
    command = [sys.executable, __file__, "--side", str(side), "--measure", measurement, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--started", repr(time.time())], stdout=subprocess.PIPE, text=True, check=True, cwd=folder
    )
    return json.loads(done.stdout.splitlines()[-1])


# -- the report ---------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> dict:
    """All measurements."""
    with tempfile.TemporaryDirectory(prefix="startup-") as name:
        folder = Path(name)
        make_data(folder, arguments.items, arguments.users, arguments.side)
        rates = in_fresh_process("pictures", folder, arguments.side)
        cold, *warm = (in_fresh_process("start", folder, arguments.side) for _ in range(1 + arguments.repeats))
    stored = rates["pixel store"]
    ratios = {kind: [a / b for a, b in zip(stored, rate, strict=True)] for kind, rate in rates.items()}
    return {
        "items": arguments.items,
        "users": arguments.users,
        "side": arguments.side,
        "cpus": N_CPUS,
        "pictures_per_second": {kind: statistics.median(rate) for kind, rate in rates.items()},
        "store_to_pillow": {kind: statistics.median(ratios[kind]) for kind in rates if kind != "pixel store"},
        "slices": rates,
        "cold": cold,
        "warm": warm,
    }


def report(result: dict) -> str:
    """The result in words and a table."""
    lines = [
        f"{result['items']} items at {result['side']} px, {result['users']} users, {result['cpus']} CPUs",
        "pictures per second: " + ", ".join(f"{k} {rate:.0f}" for k, rate in result["pictures_per_second"].items()),
        "pixel store to " + ", to ".join(f"{k} {ratio:.2f}" for k, ratio in result["store_to_pillow"].items()),
        "seconds of a start:",
        f"  {'':28} {'cold':>7}  warm ({len(result['warm'])} times)",
    ]
    for part, cold in result["cold"].items():
        lines.append(f"  {part:28} {cold:7.2f}  " + " ".join(f"{warm[part]:6.2f}" for warm in result["warm"]))
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=224, help="pixels that the encoder reads, a multiple of 7")
    parser.add_argument("--repeats", type=int, default=3, help="how often the warm start is measured")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    for internal, kind in (("--measure", str), ("--folder", Path), ("--started", float)):  # of the fresh processes
        parser.add_argument(internal, type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure == "pictures":
        print(json.dumps(pictures(arguments.folder, arguments.side)))
    elif arguments.measure == "start":
        print(json.dumps(start(arguments.folder, arguments.started)))
    else:
        result = measure(arguments)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=2) + "\n")
        print(report(result))
