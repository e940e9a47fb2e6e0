"""Runs that begin in the same second have files of their own."""

import os
import subprocess

from recbole_perpeft.utils.files import remove_empty, remove_left_behind, replacing, reserve


def test_a_name_is_given_once(tmp_path):
    file = tmp_path / "made" / "run.log"
    names = [reserve(file) for _ in range(3)]
    assert names == [file, file.with_name("run-2.log"), file.with_name("run-3.log")]
    assert all(name.stat().st_size == 0 for name in names)


def test_a_name_in_a_folder_that_cannot_be_is_left_to_the_write_that_follows(tmp_path):
    (tmp_path / "file").touch()
    name = tmp_path / "file" / "run.log"
    assert reserve(name) == name


def test_a_name_is_given_back_only_where_nothing_was_written(tmp_path):
    empty, written = reserve(tmp_path / "run.pth"), reserve(tmp_path / "run.pth")
    written.write_text("something")
    for name in (empty, written, tmp_path / "gone.pth"):
        remove_empty(name)
    assert list(tmp_path.iterdir()) == [written]


def test_only_what_killed_processes_have_left_is_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    others = [tmp_path / name for name in ("run.tmp", "run.1a.tmp", f"run.{ended.pid}", f"run.{ended.pid}.tmp.txt")]
    for file in (*others, tmp_path / f"run.pth.{ended.pid}.tmp"):
        file.touch()
    with replacing(tmp_path / "run.pth") as ours:
        ours.touch()
        remove_left_behind(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([*others, ours])
        assert ours.name == f"run.pth.{os.getpid()}.tmp"
    remove_left_behind(tmp_path / "nowhere")
