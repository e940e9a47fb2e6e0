"""What the tests of sources share: the command as it is given, and what was written as the package reads it."""

import logging

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
