"""``python -m recbole_perpeft cache``: lists, and removes what it is asked to."""

import os

import pytest

from recbole_perpeft.__main__ import main
from recbole_perpeft.content.store import digest
from recbole_perpeft.content.uses import note_use


@pytest.fixture
def cache(tmp_path):
    """Two stores, one of them unused since 1970."""
    for number, name in enumerate(("old", "new")):
        folder = tmp_path / f"pixels-{digest(number)}"
        folder.mkdir()
        (folder / "pixels.npy").write_bytes(bytes(2_000_000))
        note_use(folder, name)
    os.utime(tmp_path / f"pixels-{digest(0)}" / "data_sets.txt", (0, 0))
    return tmp_path


@pytest.fixture
def call(cache, capsys):
    """Calls the command on the cache; gives what it prints."""

    def run(*words):
        assert main(["cache", "--content_cache", str(cache), *words]) == 0
        return capsys.readouterr().out

    return run


def test_the_list_has_data_sets_kinds_and_sizes(call, cache):
    said = call().splitlines()
    assert said[0] == f"{cache}: 2 stores, 0.004 GB"
    assert said[2].split()[:3] == ["new", "pixels", "0.002"]
    assert said[3].split()[:4] == ["old", "pixels", "0.002", "1970-01-01"]


@pytest.mark.parametrize("which", [("--older_than", "30"), ("--max_size", "0.003")])
def test_pruning_takes_the_old_store_and_leaves_the_new(call, which):
    assert "Would be removed: 1 stores" in call("--prune", *which, "--dry_run")
    assert "2 stores, 0.004 GB" in call()
    assert "Removed: 1 stores, 0.002 GB" in call("--prune", *which)
    assert "1 stores, 0.002 GB" in (left := call())
    assert "\nold" not in left
    assert "There is nothing to remove." in call("--prune", *which)


def test_all_takes_everything(call, cache):
    assert "Removed: 2 stores" in call("--prune", "--all")
    assert not [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.parametrize("words", [["--prune"], ["--all"], ["--prune", "--all", "--max_size", "1"],
                                   ["--prune", "--older_than", "-1"], ["--prune", "--max_size", "all"]])  # fmt: skip
def test_what_is_not_clear_removes_nothing(cache, words):
    with pytest.raises(SystemExit) as end:
        main(["cache", "--content_cache", str(cache), *words])
    assert end.value.code == 2
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


def test_a_folder_that_is_no_cache_is_refused(cache, capsys):
    (cache / "thesis.tex").touch()
    assert main(["cache", "--content_cache", str(cache), "--prune", "--all"]) != 0
    assert "holds thesis.tex" in capsys.readouterr().err
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2
