"""Tiny data sets in atomic files, with pictures and titles, for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

WORDS = ["red", "blue", "golf", "camp", "wool", "steel", "bag", "tent", "ball", "lamp"]


def write_atomic(folder: Path, name: str, sequences: dict[str, list[str]], items: list[str]) -> Path:
    """Write ``<folder>/<name>/`` with one purchase a second per user, titles and pictures of ``items``.

    Returns the data set's folder.
    """
    place = folder / name
    (place / "images").mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user, bought in sequences.items():
        lines += [f"{user}\t{item}\t{second}" for second, item in enumerate(bought)]
    (place / f"{name}.inter").write_text("\n".join(lines) + "\n")
    rng = np.random.default_rng(0)
    rows = ["item_id:token\ttitle:token_seq\tbrand:token"]
    for item in items:
        rows.append(f"{item}\t{' '.join(rng.choice(WORDS, size=rng.integers(2, 6)))}\t{item[-1]}")
        pixels = rng.integers(0, 256, size=(20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"{item}.png")
    (place / f"{name}.item").write_text("\n".join(rows) + "\n")
    return place


def write_purchases(folder: Path, name: str, rows: list[str], header: str = "", suffix: str = "inter") -> Path:
    """Write ``<folder>/<name>/<name>.<suffix>`` of ``rows`` as they are; returns the data set's folder."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    header = header or "user_id:token\titem_id:token\ttimestamp:float"
    (place / f"{name}.{suffix}").write_text("\n".join([header, *rows]) + "\n")
    return place


def random_sequences(n_users: int = 40, n_items: int = 30, seed: int = 0) -> tuple[dict[str, list[str]], list[str]]:
    """Sequences of 4 to 9 different items per user, and all items."""
    rng = np.random.default_rng(seed)
    items = [f"i{number}" for number in range(n_items)]
    sequences = {
        f"u{user}": rng.choice(items, size=rng.integers(4, 10), replace=False).tolist() for user in range(n_users)
    }
    return sequences, items
