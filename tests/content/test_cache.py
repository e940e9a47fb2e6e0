"""The cache of all stores: where it is, what it lists, and that nothing in use is removed from it."""

import os
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from recbole_perpeft.content import ContentError
from recbole_perpeft.content.cache import PLACE_VARIABLE, beyond, cache_folder, older_than, remove, stores
from recbole_perpeft.content.store import digest, ensure_store
from tests.interpreter import ROOT, in_a_fresh_interpreter

DAY = 24 * 60 * 60
HOLDS = """
import sys
from pathlib import Path
from recbole_perpeft.content.store import ensure_store
ensure_store(Path(sys.argv[1]), lambda folder: (folder / "x.npy").write_bytes(b"1234"))
print("held", flush=True)
sys.stdin.read()
"""


def name_of(kind, number):
    return f"{kind}-{digest(number)}"


@pytest.fixture
def cache(tmp_path):
    """A cache with three stores that no process uses, of 1000, 2000 and 3000 bytes, unused for 3, 2 and 1 days."""
    for number, kind in enumerate(("pixels", "texts", "states"), start=1):
        folder = tmp_path / "cache" / name_of(kind, number)
        folder.mkdir(parents=True)
        (folder / "x.npy").write_bytes(bytes(1000 * number))
        os.utime(folder, (time.time() - (4 - number) * DAY + 60,) * 2)
    return tmp_path / "cache"


def sizes(found):
    return [store.size for store in found]


@pytest.fixture
def process():
    """``process(store)`` starts one that makes or opens a store and holds it; it is over when its input ends."""
    running = []

    def start(store):
        running.append(Popen([sys.executable, "-c", HOLDS, str(store)], stdin=PIPE, stdout=PIPE, cwd=ROOT, text=True))
        assert running[-1].stdout.readline() == "held\n"
        return running[-1]

    yield start
    for one in running:
        one.communicate()


def test_the_cache_does_not_depend_on_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.setenv(PLACE_VARIABLE, str(tmp_path / "named"))
    assert cache_folder(None) == tmp_path / "named"
    assert cache_folder("saved/content") == Path("saved/content")
    monkeypatch.delenv(PLACE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / "recbole_perpeft"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / ".cache" / "recbole_perpeft"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(ContentError, match=f"content_cache: ~ needs a home .no home.: set it, or {PLACE_VARIABLE}"):
        cache_folder(None)


def test_stores_are_listed_with_kind_size_and_last_use(cache):
    found = stores(cache)
    assert [(store.kind, store.size) for store in found] == [("states", 3000), ("tokens", 2000), ("pixels", 1000)]
    assert [round((time.time() - store.last_use) / DAY) for store in found] == [1, 2, 3]
    assert stores(cache / "nowhere") == []


def test_stores_are_chosen_by_age_and_by_the_size_that_is_left(cache):
    found = stores(cache)
    assert sizes(older_than(1.5)(found)) == [2000, 1000]
    assert sizes(older_than(10)(found)) == []
    assert sizes(beyond(6e-6)(found)) == []
    assert sizes(beyond(4e-6)(found)) == [1000, 2000]  # the longest unused first, until 4000 bytes are not exceeded
    assert sizes(beyond(0)(found)) == [1000, 2000, 3000]


def test_what_is_removed_is_gone_and_a_dry_run_removes_nothing(cache):
    first, *others = stores(cache)
    assert remove(first, dry_run=True)
    assert len(stores(cache)) == 3
    assert remove(first)
    assert stores(cache) == others
    assert not first.folder.exists()


def test_a_store_that_a_process_holds_stays_until_it_ends_however_it_ends(cache, process):
    (held,) = (store for store in stores(cache) if store.kind == "tokens")
    first, second = process(held.folder), process(held.folder)
    assert not remove(held)
    first.communicate()
    assert not remove(held, dry_run=True)
    second.kill()
    second.wait()
    assert remove(held)
    assert not held.folder.exists()


def test_a_store_that_is_being_made_stays_and_what_a_killed_run_left_goes(cache):
    store, seen = cache / name_of("pixels", 9), []

    def make(partial):
        (partial / "x.npy").write_bytes(bytes(5000))
        (unfinished,) = (one for one in stores(cache) if one.kind == "unfinished")
        code = f"from recbole_perpeft.content.cache import *; print([remove(s) for s in stores(Path({str(cache)!r})) "
        seen.append(in_a_fresh_interpreter(code + "if s.kind == 'unfinished'])"))
        assert unfinished.folder == partial
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_store(store, make)
    assert seen == ["[False]"]
    (unfinished,) = (one for one in stores(cache) if one.kind == "unfinished")
    assert remove(unfinished)
    assert len(stores(cache)) == 3


def test_what_a_killed_removal_left_goes_too(cache):
    first = stores(cache)[0]
    first.folder.rename(first.folder.with_name(f"{first.folder.name}.removed"))
    assert stores(cache)[-1].kind != "states"
    for store in stores(cache):
        assert remove(store)
    assert [path.suffix for path in cache.iterdir()] == [".lock"] * 3


@pytest.mark.parametrize("foreign", ["thesis.tex", "images/", "pixels-today/", f"pixels-{'0' * 24}.tar"])
def test_a_folder_that_holds_anything_else_is_no_cache(cache, foreign):
    (cache / foreign).mkdir() if foreign.endswith("/") else (cache / foreign).touch()
    with pytest.raises(ContentError, match=f"is no cache of item content, for it holds {foreign.rstrip('/')}"):
        stores(cache)


def test_a_file_is_no_cache(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ContentError, match=r"content_cache: .*file cannot be read"):
        stores(tmp_path / "file")


def test_a_catalogue_names_the_data_set_and_a_second_run_renews_the_last_use(prepare, tmp_path, caplog):
    caplog.set_level("INFO")
    prepare()
    found = stores(tmp_path / "cache")
    assert sorted((store.kind, *store.data_sets) for store in found) == [("pixels", "shop"), ("tokens", "shop")]
    assert f"The content cache {tmp_path / 'cache'} (content_cache) holds 0.0" in caplog.text
    assert not any(remove(store) for store in found)  # this process may read them
    for store in found:
        os.utime(store.folder / "data_sets.txt", (0, 0))
    assert all(store.last_use == 0 for store in stores(tmp_path / "cache"))
    prepare()
    assert all(time.time() - store.last_use < 60 for store in stores(tmp_path / "cache"))
