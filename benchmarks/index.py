"""What an index of items finds, and how fast, against all scores: of items of like lengths, and of different ones.

    python benchmarks/index.py --items 100000 --threads 1 --json index.json

The items are random vectors whose lengths are spread by a lognormal factor (``--spreads``; 0 leaves them alike). Lists
are found by all scores, and by graphs that compare so many ``--candidates``, for one user at a time and for a block.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

import torch  # noqa: E402

from benchmarks.machine import describe  # noqa: E402
from recbole_perpeft.serving.index import ItemIndex  # noqa: E402
from recbole_perpeft.serving.products import Product  # noqa: E402
from recbole_perpeft.serving.ranking import Ranking  # noqa: E402

K = 20
SEED = 2026
NOTHING = torch.tensor([0])  # no item is shut but padding


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--spreads", type=float, nargs="+", default=[0.0, 0.5])
    parser.add_argument("--candidates", type=int, nargs="+", default=[64, 256, 1000])
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--threads", type=int, help="of torch; torch's own number, if left out")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(arguments)


def microseconds(find, product: Product, users: int) -> tuple[float, float]:
    """Of a user alone, and of each of a block."""
    alone = [Product(0, torch.arange(1), (product.queries[0][row : row + 1],), product.items) for row in range(users)]
    start = time.perf_counter()
    for one in alone:
        find([one], 1)
    middle = time.perf_counter()
    find([product], users)
    return 1e6 * (middle - start) / users, 1e6 * (time.perf_counter() - middle) / users


def measure(values: argparse.Namespace) -> list[dict]:
    """A row for each spread and way."""
    rows = []
    for spread in values.spreads:
        generator = torch.Generator().manual_seed(SEED)
        items = torch.randn(values.items + 1, values.width, generator=generator)
        items *= torch.exp(spread * torch.randn(values.items + 1, 1, generator=generator))
        queries = torch.randn(values.users, values.width, generator=generator)
        product = Product(0, torch.arange(values.users), (queries,), (items,))
        exact = Ranking(values.items + 1, values.users, NOTHING)

        def by_all(products, users, exact=exact):
            return exact.of_products(products, users, None, K)

        by_all([product], values.users)
        alone, block = microseconds(by_all, product, values.users)
        rows.append({"spread": spread, "candidates": None, "recall": 1.0, "alone": alone, "block": block})
        index = ItemIndex(max(values.candidates))
        seconds = index.build([product], values.users, K).seconds
        for number in values.candidates:
            index.candidates = number
            recall = index.build([product], values.users, K).recall

            def by_index(products, users, index=index):
                return index.best(products, users, NOTHING, None, K)

            alone, block = microseconds(by_index, product, values.users)
            rows.append(
                {
                    "spread": spread,
                    "candidates": number,
                    "recall": recall,
                    "alone": alone,
                    "block": block,
                    "build_seconds": seconds,
                }
            )
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    values = parse(arguments)
    if values.threads:
        torch.set_num_threads(values.threads)
    rows = measure(values)
    machine = describe(torch.device("cpu"))
    print(f"{values.items} items, width {values.width}; {machine['processor']}, {machine['threads']} threads")
    print("| lengths spread by | candidates | recall@20 | time of a user alone | of each of a block |")
    print("|---|---|---|---|---|")
    for row in rows:
        whole = next(other for other in rows if other["spread"] == row["spread"])
        times = [f"{row[key] / whole[key]:.2f}" for key in ("alone", "block")]
        print(f"| {row['spread']} | {row['candidates'] or 'all'} | {row['recall']:.3f} | {times[0]} | {times[1]} |")
    if values.json:
        settings = {name: getattr(values, name) for name in ("items", "width", "users")}
        result = {"rows": rows, "settings": settings, "machine": machine}
        values.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
