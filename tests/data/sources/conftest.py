"""What the tests of sources share: the command as it is given, and what was written as the package reads it."""

import json
import logging
import multiprocessing
import os
import time
from contextlib import contextmanager

import pandas as pd
import pytest
import yaml

from recbole_perpeft.commands.prepare import main
from recbole_perpeft.content.item_file import read_item_texts


class Written:
    """A data set that was written."""

    def __init__(self, out, name):
        self.folder, self.name = out / name, name

    @property
    def settings(self):
        return yaml.safe_load((self.folder / f"{self.name}.yaml").read_text(encoding="utf-8"))

    def purchases(self, part=""):
        """As RecBole reads them: a list of tuples."""
        file = self.folder / f"{self.name}{part and '.' + part}.inter"
        types = {"user_id:token": str, "item_id:token": str}
        rows = pd.read_csv(file, delimiter="\t", dtype=types, engine="python", encoding="utf-8")
        return list(rows.itertuples(index=False, name=None))

    def texts(self, *columns):
        """As the content store reads them: item -> values."""
        rows = read_item_texts(self.folder / f"{self.name}.item", "item_id", columns)
        return {item: tuple(row.values()) for item, row in rows.items()}


@pytest.fixture
def prepare(tmp_path, caplog, capsys):
    """``prepare(name, *words)`` gives the :class:`Written` data set; ``prepare.log()`` what was logged, too."""
    caplog.set_level(logging.INFO)
    out = tmp_path / "out"

    def run(name, *words):
        assert main([*map(str, words), "--out", str(out)]) == 0
        return Written(out, name)

    run.log = lambda: caplog.text
    run.printed = lambda: capsys.readouterr().out
    run.out = out
    return run


@pytest.fixture
def shop(tmp_path):
    """A pair of files as Amazon Reviews 2023 has them: reviews and products."""
    reviews = [
        {"user_id": user, "parent_asin": item, "rating": 5.0, "timestamp": time}
        for time, (user, item) in enumerate([("ann", "B1"), ("ann", "B2"), ("bob", "B1")])
    ]
    products = [{"parent_asin": item, "title": f"Tent {item}", "images": []} for item in ("B1", "B2")]
    files = tmp_path / "Camp.jsonl", tmp_path / "meta_Camp.jsonl"
    for file, rows in zip(files, (reviews, products), strict=True):
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return files


@pytest.fixture
def stuck_at_products(prepare, shop):
    """A context, in which another process has written ``shop``'s purchases and waits for its products; then killed."""

    @contextmanager
    def start():
        reviews, meta = shop
        products = meta.read_bytes()
        meta.unlink()
        os.mkfifo(meta)  # into which nobody writes
        words = ["amazon2023", *map(str, shop), "--out", str(prepare.out)]
        process = multiprocessing.get_context("fork").Process(target=main, args=(words,))
        process.start()
        try:
            until = time.monotonic() + 60
            while not list(prepare.out.glob("Camp/Camp.item.*.tmp")) and time.monotonic() < until:
                time.sleep(0.01)
            yield process
        finally:
            process.kill()
            process.join()
            meta.unlink()
            meta.write_bytes(products)

    return start
