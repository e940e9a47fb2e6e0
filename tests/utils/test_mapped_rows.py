"""Rows in files: the same numbers as in memory, no file left behind, and no memory held for them."""

import gc
import io
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_perpeft.utils import mapped_rows
from recbole_perpeft.utils.errors import TrainingError
from recbole_perpeft.utils.mapped_rows import as_tensor, blocks, empty_rows, fill, release, rows_from

CPU = torch.device("cpu")


@pytest.fixture
def large(monkeypatch, tmp_path):
    """Rows of 2,000 numbers, which are many enough to lie in a file."""
    monkeypatch.setattr(mapped_rows, "IN_MEMORY", 4000)
    values = torch.arange(2000, dtype=torch.float32).view(500, 4)
    return values, fill(empty_rows(500, 4, CPU, lambda: tmp_path / "cache"), values.split(70))


def pages_of_files():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssFile:")[1].split()[0]) * 1024 + int(status.split("RssShmem:")[1].split()[0]) * 1024


def test_rows_in_a_file_are_those_that_were_put_there(large, tmp_path):
    values, rows = large
    assert list((tmp_path / "cache").iterdir()) == []  # it has no name: whoever is killed leaves nothing
    release(rows)
    assert rows.equal(values)
    assert rows_from(rows, 3).equal(values[3:])
    assert torch.cat([block.clone() for block in blocks(rows_from(rows, 3), 64)]).equal(values[3:])
    written = io.BytesIO()
    torch.save(rows, written)
    written.seek(0)
    assert torch.load(written, weights_only=True).equal(values)


def test_released_rows_hold_no_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(mapped_rows, "IN_MEMORY", 2**20)
    rows = fill(empty_rows(2**16, 256, CPU, lambda: tmp_path), torch.ones(2**16, 256).split(4096))  # 64 MB
    before = pages_of_files()
    assert rows.sum() == rows.numel()
    assert pages_of_files() - before > 2**25
    release(rows)
    assert pages_of_files() - before < 2**22
    for block in blocks(rows, 4096):
        assert block.sum() == block.numel()
    assert pages_of_files() - before < 2**24


def test_a_map_lives_as_long_as_its_rows(tmp_path):
    np.save(tmp_path / "some.npy", np.ones((5, 2), np.int16))
    mapped = np.load(tmp_path / "some.npy", mmap_mode="r")
    seen = weakref.ref(mapped)
    rows = as_tensor(mapped, torch.bfloat16)
    del mapped
    gc.collect()
    assert rows.dtype == torch.bfloat16
    assert seen() is mapped_rows._MAPS[rows]
    del rows
    gc.collect()
    assert seen() is None


def test_a_folder_that_cannot_hold_them_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(mapped_rows, "IN_MEMORY", 10)
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"file/below \(content_cache\) cannot hold 0.00 GB, a table of 3 rows"):
        empty_rows(3, 4, CPU, partial(Path, tmp_path / "file" / "below"))
