"""One process at a time writes a data set's folder."""

import os
import subprocess

import pytest

from recbole_perpeft.data.sources.one_writer import only_writer
from recbole_perpeft.utils.errors import DataError


def test_the_second_process_is_told_of_the_first_and_leaves_its_files(prepare, shop, stuck_at_products):
    with stuck_at_products() as process:
        begun = [file.name for file in (prepare.out / "Camp").iterdir()]
        with pytest.raises(DataError, match=f"Camp is being written by the process {process.pid}. Wait until"):
            prepare("Camp", "amazon2023", *shop)
        assert [file.name for file in (prepare.out / "Camp").iterdir()] == begun
        assert process.is_alive()
    assert len(prepare("Camp", "amazon2023", *shop).purchases()) == 3  # a killed one holds nothing


def test_parts_of_files_of_dead_processes_are_removed_but_not_those_of_living_ones(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, ours = (tmp_path / f"shop.inter.{process}.tmp" for process in (ended.pid, os.getpid()))
    for file in (left, ours):
        file.touch()
    with only_writer(tmp_path):
        assert not left.exists()
        assert ours.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file cannot be written: "), only_writer(tmp_path / "file"):
        pass
