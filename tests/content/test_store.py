"""A store is made once, is whole when it is there, and says what to do when the disk is full."""

import errno
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from recbole_perpeft.content import ContentError
from recbole_perpeft.content.store import ArrayWriter, digest, ensure_store, open_array

ROWS = np.arange(12, dtype=np.int32).reshape(6, 2)


def write_rows(folder: Path, rows: np.ndarray = ROWS) -> None:
    with ArrayWriter(folder / "x.npy", np.int32, ROWS.shape) as writer:
        writer.append(rows)


def test_made_once(tmp_path):
    store = tmp_path / "cache" / "x-1"
    assert ensure_store(store, write_rows) is False
    assert ensure_store(store, lambda folder: pytest.fail("made again")) is True
    np.testing.assert_array_equal(open_array(store / "x.npy"), ROWS)


def test_opened_array_is_a_read_only_map(tmp_path):
    ensure_store(tmp_path / "x-1", write_rows)
    array = open_array(tmp_path / "x-1" / "x.npy")
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


@pytest.mark.parametrize("rows_before", [0, 1, 4])
def test_goes_on_after_a_kill(rows_before: int, tmp_path):
    def killed(folder):
        write_rows(folder, ROWS[:rows_before])
        with open(folder / "x.npy", "ab") as file:
            file.write(b"half")  # of the next row
        raise KeyboardInterrupt

    def make(folder):
        with ArrayWriter(folder / "x.npy", np.int32, ROWS.shape) as writer:
            assert writer.n_rows == rows_before
            writer.append(ROWS[writer.n_rows :])

    store = tmp_path / "x-1"
    with pytest.raises(KeyboardInterrupt):
        ensure_store(store, killed)
    assert not store.exists()
    assert ensure_store(store, make) is False
    np.testing.assert_array_equal(open_array(store / "x.npy"), ROWS)


def test_second_run_at_the_same_time_waits(tmp_path):
    started, go_on, made = threading.Event(), threading.Event(), []

    def slow(folder):
        made.append("first")
        started.set()
        go_on.wait(10)
        write_rows(folder)

    def second(folder):
        made.append("second")

    reused = []
    threads = [
        threading.Thread(target=lambda make=make: reused.append(ensure_store(tmp_path / "x-1", make)))
        for make in (slow, second)
    ]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    threads[1].join(0.3)  # time to go ahead, if it did not wait
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert made == ["first"]
    assert sorted(reused) == [False, True]


def assert_nothing_left(cache: Path) -> None:
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


def test_too_little_space_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=100, used=90, free=10))
    with pytest.raises(ContentError, match="need 48 bytes .* 10 are free.*`content_cache`") as info:
        ensure_store(tmp_path / "x-1", write_rows)
    assert str(tmp_path) in str(info.value)
    assert_nothing_left(tmp_path)


def test_disk_fills_while_writing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ContentError, match="is full: x of the items need 48 bytes .*`content_cache`") as info:
        ensure_store(tmp_path / "x-1", write_rows)
    assert str(tmp_path) in str(info.value)
    assert_nothing_left(tmp_path)


def test_other_write_error(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(ContentError, match="cannot be written .*Input/output error.*`content_cache`"):
        ensure_store(tmp_path / "x-1", write_rows)
    assert_nothing_left(tmp_path)


def test_cache_dir_is_a_file(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(ContentError, match="cannot be written .*`content_cache`"):
        ensure_store(tmp_path / "cache" / "x-1", write_rows)


def test_damaged_store(tmp_path):
    ensure_store(tmp_path / "x-1", write_rows)
    with open(tmp_path / "x-1" / "x.npy", "r+b") as file:
        file.truncate(140)
    with pytest.raises(ContentError, match="is damaged .*delete .*x-1"):
        open_array(tmp_path / "x-1" / "x.npy")


def test_digest():
    assert digest(["a", 1, {"x": 1, "y": 2}]) == digest(["a", 1, {"y": 2, "x": 1}])
    assert digest(["ab", "c"]) != digest(["a", "bc"])
