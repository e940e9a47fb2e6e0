"""A copy of the tiny data set that is to be spoiled, and what is found in it."""

import shutil

import pytest

from recbole_perpeft.report.data_check.check import check_data
from tests.tiny_runs import tiny_config


@pytest.fixture
def shop(tiny_root, tmp_path, monkeypatch):
    """The folder of a copy of the tiny data set, with titles that the tiny encoder reads to the end; to be spoiled."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    folder = shutil.copytree(tiny_root / "tiny", tmp_path / "data" / "tiny")
    rename(folder, lambda row: f"item {row}")
    return folder


def rename(folder, title):
    """Give the item of row 1, 2, … of the ``.item`` file the title ``title(row)``, where that is not None."""
    lines = (folder / "tiny.item").read_text().splitlines()
    for row, line in enumerate(lines[1:], 1):
        item_id, old, brand = line.split("\t")
        new = title(row)
        lines[row] = "\t".join([item_id, old if new is None else new, brand])
    (folder / "tiny.item").write_text("\n".join(lines) + "\n")


@pytest.fixture
def checked(shop):
    """``checked(**settings)`` gives what is found in the copy."""
    return lambda **settings: check_data(tiny_config(shop.parent, **settings))


def figures(findings, section):
    (found,) = (rows for name, rows in findings.sections.items() if name.startswith(section))
    return dict(found)


def of_kind(findings, kind):
    return [problem.text for problem in findings.problems if problem.kind == kind]


def change(file, old, new, count=1):
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, count), encoding="utf-8")
