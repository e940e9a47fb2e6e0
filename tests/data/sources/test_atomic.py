"""What is written comes back, whatever it is; and a file is whole, or as it was."""

import resource
from contextlib import contextmanager
from itertools import groupby

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_perpeft.content.item_file import read_item_texts
from recbole_perpeft.data.sources.atomic import (
    linked_pictures,
    make_folder,
    read_urls,
    write_items,
    write_purchases,
    write_urls,
)
from recbole_perpeft.data.sources.ids import unusable
from recbole_perpeft.data.sources.purchases import Purchases
from recbole_perpeft.utils.errors import DataError

_NASTY = st.sampled_from(
    ['"', '""', '"a"', "'", "\t", "\n", "\r\n", "\r", "NA", "null", "nan", "&amp;", "&#34;", "\u2028", "\x85", "\ufeff",
     "a\tb", '"a\nb"', "\0", "\ud83d", " ", "\xa0", ",", "#"]
)  # fmt: skip
_ANY = st.integers(0, 0x10FFFF).map(chr)  # st.text() would take seconds to make a table of all characters first
TEXTS = st.lists(st.one_of(_NASTY, _ANY), max_size=8).map("".join)
EXAMPLES = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def expected(text):
    """A text without what atomic files cannot hold, by plain Python: runs of blanks, then characters."""
    runs = ["".join(run) for _, run in groupby(text, key=lambda character: character.isspace() or character == "\0")]
    whole = "".join(" " if set(run) & set("\t\n\r\0") else run for run in runs)
    return "".join("\ufffd" if 0xD800 <= ord(character) < 0xE000 else character for character in whole)


@EXAMPLES
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_any_texts_come_back_from_the_content_store_and_from_pandas(tmp_path_factory, rows):
    folder = make_folder(tmp_path_factory.mktemp("out"), "shop")
    wanted = {f"i{number}": tuple(map(expected, row)) for number, row in enumerate(rows)}
    write_items(folder, ["title", "brand"], ((f"i{number}", row) for number, row in enumerate(rows)))
    found = read_item_texts(folder / "shop.item", "item_id", ["title", "brand"])
    assert {item: tuple(row.values()) for item, row in found.items()} == wanted
    # as RecBole opens it, but for its words for missing values
    table = pd.read_csv(folder / "shop.item", delimiter="\t", dtype=str, engine="python", keep_default_na=False)
    assert list(table.itertuples(index=False, name=None)) == [(item, *row) for item, row in wanted.items()]


IDS = st.one_of(st.sampled_from(["NA", "null", "", "007", "1e5", "a b", "ü", "#", ",", "'", " x "]), TEXTS)


@EXAMPLES
@given(ids=st.lists(IDS, min_size=1, max_size=8, unique=True), data=st.data())
def test_usable_ids_come_back_from_recboles_reader_and_the_others_do_not(tmp_path_factory, ids, data):
    bad = set(unusable(ids))
    good = [one for one in ids if one not in bad]
    folder = make_folder(tmp_path_factory.mktemp("out"), "shop")
    codes = np.arange(len(good), dtype=np.int32)
    times = np.array(data.draw(st.lists(st.integers(0, 2**50), min_size=len(good), max_size=len(good))), np.int64)
    write_purchases(folder, Purchases(good, good, codes, codes, {"timestamp": times}))
    types = {"user_id:token": str, "item_id:token": str, "timestamp:float": np.float64}
    table = pd.read_csv(folder / "shop.inter", delimiter="\t", dtype=types, engine="python", encoding="utf-8")
    assert table["user_id:token"].tolist() == table["item_id:token"].tolist() == good
    assert table["timestamp:float"].tolist() == times.tolist()


@contextmanager
def room_for(size):
    """Files of at most ``size`` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_the_old_file_stays_and_nothing_half_is_left(tmp_path):
    folder = make_folder(tmp_path, "shop")
    write_items(folder, ["title"], [("a", ["before"])])
    with room_for(4096), pytest.raises(DataError, match=r"shop\.item cannot be written: File too large. Make room"):
        write_items(folder, ["title"], ((f"i{number}", ["after" * 20]) for number in range(1000)))
    assert [file.name for file in folder.iterdir()] == ["shop.item"]
    assert read_item_texts(folder / "shop.item", "item_id", ["title"]) == {"a": {"title": "before"}}


def test_items_whose_ids_atomic_files_cannot_hold_are_left_out_and_named(tmp_path, caplog):
    folder = make_folder(tmp_path, "shop")
    assert write_items(folder, ["title"], [("NA", ["x"]), ("a", ["y"]), ("b\nc", ["z"])]) == 1
    assert "2 items" in caplog.text
    assert "'NA'" in caplog.text
    assert list(read_item_texts(folder / "shop.item", "item_id", ["title"])) == ["a"]


@pytest.mark.parametrize("columns", [["a:b"], ["item_id"], ["a", "a"], [""], ["a\tb"], ['"a"']])
def test_columns_that_atomic_files_cannot_name_are_refused(tmp_path, columns):
    with pytest.raises(DataError, match="cannot stand in an atomic file"):
        write_items(make_folder(tmp_path, "shop"), columns, [])


def test_addresses_come_back_and_a_line_without_one_is_named(tmp_path):
    folder = make_folder(tmp_path, "shop")
    urls = {"a": ["https://x/1.jpg", "https://x/2.jpg"], "b": ["http://y"]}
    write_urls(folder, urls)
    assert read_urls(folder) == urls
    (folder / "shop.urls.tsv").write_text("a\thttp://x\nb\n")
    with pytest.raises(DataError, match=r"shop\.urls\.tsv, line 2: 'b' has no address"):
        read_urls(folder)


def test_names_and_folders_that_cannot_be_are_refused(tmp_path):
    for name in ("a/b", "..", "a b", ""):
        with pytest.raises(DataError, match="is no name of a data set"):
            make_folder(tmp_path, name)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="--out: .* cannot be made"):
        make_folder(tmp_path / "file", "shop")
    folder = make_folder(tmp_path, "shop")
    with pytest.raises(DataError, match="is no folder"):
        linked_pictures(folder, tmp_path / "nowhere")
    (folder / "images").mkdir()
    with pytest.raises(DataError, match="Move it away"):
        linked_pictures(folder, tmp_path)
