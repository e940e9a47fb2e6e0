"""Seconds and memory of ``prepare amazon2023`` against ``json.loads`` a line and pandas, which do the same job.

    python benchmarks/prepare.py --json prepare.json

A pair of files as Amazon Reviews 2023 has them is made (``--reviews``, ``--products``), with texts and nested fields of
about their lengths. Each side runs in a process of its own, ``--turns`` times, in turn. Both have to write the same
purchases and titles. What the readers of JSON alone take is measured beside, on the file of reviews.
"""

import argparse
import contextlib
import gzip
import json
import random
import shutil
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

import torch  # noqa: E402

from benchmarks.machine import describe  # noqa: E402

K_CORE, SEED = 5, 2026
_VOCABULARY, _SKEW = 30_000, 4  # words, and how much more often the first are drawn, so that texts pack as reviews do
_SIDES = {
    "prepare": "import sys; from recbole_perpeft.__main__ import main; main(sys.argv[1:])",
    "json and pandas": "import sys; sys.path.insert(0, sys.argv[1]); from benchmarks.prepare_naive import main; "
    "main(sys.argv[2:])",
}
_READERS = {  # an import, and what reads all objects of the file ``path``
    "json": ("import json", "for line in open(path, 'rb'): json.loads(line)"),
    "orjson": ("import orjson", "for line in open(path, 'rb'): orjson.loads(line)"),
    "msgspec": (
        "from recbole_perpeft.data.sources.amazon2023 import Review\n"
        "from recbole_perpeft.data.sources.json_lines import records",
        "for rows in records(pathlib.Path(path), Review, False): pass",
    ),
    "pyarrow.json": (
        "import pyarrow as pa\nfrom pyarrow import json",
        "kinds = pa.schema([('user_id', pa.string()), ('parent_asin', pa.string()), ('rating', pa.float64()), "
        "('timestamp', pa.int64()), ('verified_purchase', pa.bool_())])\n"
        "options = json.ParseOptions(explicit_schema=kinds, unexpected_field_behavior='ignore')\n"
        "json.read_json(path, json.ReadOptions(use_threads=False), options)",
    ),
}


def make_files(folder: Path, n_reviews: int, n_products: int, packed: bool) -> tuple[Path, Path]:
    """Write reviews and products; gives both files."""
    ending = ".jsonl.gz" if packed else ".jsonl"
    files = folder / f"Shop{ending}", folder / f"meta_Shop{ending}"
    for file, lines in zip(files, (_reviews(n_reviews, n_products), _products(n_products)), strict=True):
        with gzip.open(file, "wt", compresslevel=6) if packed else open(file, "w") as out:
            out.writelines(f"{json.dumps(line)}\n" for line in lines)
    return files


def _reviews(number: int, n_products: int) -> Iterator[dict]:
    draw = random.Random(SEED)
    n_users = max(1, number // 4)
    for _ in range(number):
        user = int(n_users * draw.random() ** 2)  # some write much more than others
        product = int(n_products * draw.random() ** 2)
        yield {
            "rating": float(draw.choice((1, 3, 4, 5, 5, 5))),
            "title": _text(draw, 1, 9),
            "text": _text(draw, 3, 110),
            "images": [],
            "asin": f"B{product * 3 + draw.randrange(3):09d}",
            "parent_asin": f"B{product * 3:09d}",
            "user_id": f"AE{user:026d}",
            "timestamp": 1_500_000_000_000 + draw.randrange(150_000_000_000),
            "helpful_vote": draw.randrange(3),
            "verified_purchase": draw.random() < 0.9,
        }


def _products(number: int) -> Iterator[dict]:
    draw = random.Random(SEED + 1)
    for product in range(number):
        yield {
            "main_category": "Sports & Outdoors",
            "title": _text(draw, 5, 25) + f' 12" &amp; {product}',
            "average_rating": round(1 + 4 * draw.random(), 1),
            "rating_number": draw.randrange(5000),
            "features": [_text(draw, 10, 30) for _ in range(5)],
            "description": [_text(draw, 20, 120)],
            "price": draw.choice((None, 12.99)),
            "images": [
                {size: f"https://example.org/{product}-{number}-{size}.jpg" for size in ("thumb", "large", "hi_res")}
                | {"variant": "MAIN" if number == 0 else f"PT0{number}"}
                for number in range(5)
            ],
            "videos": [],
            "store": _text(draw, 1, 3),
            "categories": ["Sports & Outdoors", "Fan Shop", _text(draw, 1, 3)],
            "details": {f"Detail {number}": _text(draw, 1, 8) for number in range(10)},
            "parent_asin": f"B{product * 3:09d}",
            "bought_together": None,
        }


def _text(draw: random.Random, least: int, most: int) -> str:
    chance = draw.random
    return " ".join([_WORDS[int(_VOCABULARY * chance() ** _SKEW)] for _ in range(draw.randint(least, most))])


def _words() -> list[str]:
    draw = random.Random(SEED)
    return ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9))) for _ in range(_VOCABULARY)]


_WORDS = _words()


def run(side: str, files: tuple[Path, Path], out: Path) -> tuple[float, float, int]:
    """Seconds, of the clock and of the processors, and peak bytes of one side, from start to end of its process."""
    root = Path(__file__).resolve().parent.parent
    words = [*([str(root)] if side != "prepare" else ["prepare", "amazon2023"]), *map(str, files), "--out", str(out)]
    words += ["--k_core", str(K_CORE)] if side == "prepare" else [str(K_CORE)]
    code = _SIDES[side] + "; import resource; used = resource.getrusage(resource.RUSAGE_SELF)"
    code += "; print(used.ru_utime + used.ru_stime, used.ru_maxrss)"
    shutil.rmtree(out, ignore_errors=True)  # prepare goes on from what is done
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    seconds, (busy, peak) = time.perf_counter() - start, done.stdout.split()[-2:]
    return seconds, float(busy), 1024 * int(peak)


def reader_seconds(name: str, file: Path) -> float | None:
    """Seconds of reading a plain file's objects and no more, or None where the reader is not installed."""
    imports, read = _READERS[name]
    code = f"import pathlib, sys, time\npath = sys.argv[1]\n{imports}\nstart = time.perf_counter()\n{read}\n"
    code += "print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        return None
    done.check_returncode()
    return float(done.stdout)


def same_files(one: Path, other: Path) -> bool:
    """Whether both sides wrote the same purchases and titles, in whatever order of lines."""
    return all(
        sorted((one / f"Shop.{kind}").read_bytes().split(b"\n"))
        == sorted((other / f"Shop.{kind}").read_bytes().split(b"\n"))
        for kind in ("inter", "item")
    )


def measure(values: argparse.Namespace, folder: Path) -> list[dict]:
    """A row for plain and for packed files."""
    rows = []
    for packed in (False, True):
        place = folder / ("packed" if packed else "plain")
        place.mkdir()
        files = make_files(place, values.reviews, values.products, packed)
        taken: dict[str, list] = {side: [] for side in _SIDES}
        for _ in range(values.turns):
            for side, turns in taken.items():
                turns.append(run(side, files, place / side))
        row = {"files": place.name, "bytes": sum(file.stat().st_size for file in files)}
        row["same"] = same_files(place / "prepare" / "Shop", place / "json and pandas" / "Shop")
        for side, turns in taken.items():
            row[side] = {
                "seconds": statistics.median(seconds for seconds, _, _ in turns),
                "processor_seconds": statistics.median(busy for _, busy, _ in turns),
                "turns": [[seconds, busy] for seconds, busy, _ in turns],
                "peak_bytes": max(peak for _, _, peak in turns),
            }
        if not packed:
            row["readers"] = {name: reader_seconds(name, files[0]) for name in _READERS}
        rows.append(row)
        for file in files:
            file.unlink()
    return rows


def report(values: argparse.Namespace, rows: list[dict]) -> str:
    """The table in Markdown."""
    lines = [
        "| files | side | seconds | of the processors | peak GiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        for side in _SIDES:
            found = row[side]
            figures = f"{found['seconds']:.1f} | {found['processor_seconds']:.1f} | {found['peak_bytes'] / 2**30:.2f}"
            lines.append(f"| {row['files']}, {row['bytes'] / 1e9:.2f} GB | {side} | {figures} |")
    for row in rows:
        times = [row["json and pandas"][kind] / row["prepare"][kind] for kind in ("seconds", "processor_seconds")]
        lines += [
            "",
            f"{row['files']}: {times[0]:.1f} times as fast, {times[1]:.1f} times less of the processors.",
        ]
    lines += ["", "| reading the reviews alone | seconds |", "| --- | --- |"]
    for name, seconds in rows[0]["readers"].items():
        lines.append(f"| {name} | {'not installed' if seconds is None else f'{seconds:.1f}'} |")
    same = "the same" if all(row["same"] for row in rows) else "DIFFERENT"
    lines += [
        "",
        f"{values.reviews:,} reviews of {values.products:,} products; both wrote {same} purchases and titles.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=2_000_000)
    parser.add_argument("--products", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for all figures; the table is written beside it")
    values = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows = measure(values, folder)
    table = report(values, rows)
    print(table)
    if values.json:
        settings = {"reviews": values.reviews, "products": values.products, "turns": values.turns, "k_core": K_CORE}
        figures = {"prepare": {"files": rows, "settings": settings, "machine": describe(torch.device("cpu"))}}
        values.json.write_text(json.dumps(figures, indent=1) + "\n")
        values.json.with_suffix(".md").write_text(table + "\n")


if __name__ == "__main__":
    main()
