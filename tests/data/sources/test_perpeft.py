"""The authors' layout, and pickles that are not opened."""

import os
import pickle

import numpy as np
import pytest

from recbole_perpeft.data.sources.plain_pickle import read_plain_pickle
from recbole_perpeft.utils.errors import DataError


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "authors"
    (folder / "toys_images").mkdir(parents=True)
    (folder / "toys_images" / "B1.jpg").write_bytes(b"jpg")
    (folder / "toys_final.txt").write_text("1 2\n1 1\n1 2\n2 1\n")
    (folder / "toys_item2id_final.pickle").write_bytes(pickle.dumps({1: "B1", np.int64(2): "B2"}))
    (folder / "toys_texts_final.pickle").write_bytes(pickle.dumps({"B1": 'A "bear"', "B7": "not bought"}))
    return folder


def test_purchases_titles_and_pictures(prepare, source):
    toys = prepare("amazon-toys", "perpeft", source, "toys", "--name", "amazon-toys")
    assert toys.purchases() == [("1", "B2", 0), ("1", "B1", 1), ("1", "B2", 2), ("2", "B1", 0)]
    assert toys.texts("title") == {"B2": ("No description available.",), "B1": ('A "bear"',)}
    assert (toys.folder / "images" / "B1.jpg").read_bytes() == b"jpg"
    assert toys.settings["image_dir"] == "images"
    assert toys.settings["missing_content"] == "neutral"  # B2 has no picture
    assert "1 items have no title" in prepare.log()


def test_a_dictionary_from_id_to_number_is_turned_round(prepare, source):
    (source / "toys_item2id_final.pickle").write_bytes(pickle.dumps({"B1": 1, "B2": 2}))
    assert [row[1] for row in prepare("toys", "perpeft", source, "toys").purchases()] == ["B2", "B1", "B2", "B1"]


@pytest.mark.parametrize("none", [None, float("nan")])
def test_no_title_is_none_and_a_byte_order_mark_no_number(prepare, source, none):
    (source / "toys_texts_final.pickle").write_bytes(pickle.dumps({"B1": none}))
    (source / "toys_final.txt").write_bytes(b"\xef\xbb\xbf1 1\n")
    toys = prepare("toys", "perpeft", source, "toys")
    assert toys.texts("title") == {"B1": ("No description available.",)}


@pytest.mark.parametrize(("line", "message"), [("3 1 4", "is no two numbers"), ("3 9", "item 9 is not in")])
def test_a_line_that_does_not_fit_is_named(prepare, source, line, message):
    with open(source / "toys_final.txt", "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DataError, match=rf"toys_final\.txt, line 5: .*{message}"):
        prepare("toys", "perpeft", source, "toys")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({1: "B1", 2: "B1"}, "the numbers 1 and 2 both stand for the item 'B1'"),
        ({"B1": 1, "B2": 1}, "the number 1 stands for the items 'B1' and 'B2'"),
        ({1: 7, 2: "7"}, "the numbers 1 and 2 both stand for the item '7'"),
    ],
)
def test_two_items_that_would_become_one_are_named(prepare, source, ids, message):
    (source / "toys_item2id_final.pickle").write_bytes(pickle.dumps(ids))
    with pytest.raises(DataError, match=f"toys_item2id_final.pickle: {message}"):
        prepare("toys", "perpeft", source, "toys")


class Program:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_pickle_with_a_program_in_it_is_refused_and_not_run(prepare, source):
    made = source / "made"
    (source / "toys_texts_final.pickle").write_bytes(pickle.dumps({"B1": Program(made)}))
    with pytest.raises(DataError, match=r"it asks for posix\.mkdir, which is no plain data"):
        prepare("toys", "perpeft", source, "toys")
    assert not made.exists()
    pickle.loads(pickle.dumps({"B1": Program(made)}))
    assert made.is_dir()  # so it would have run


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_and_arrays_of_numbers_are_opened(tmp_path, protocol):
    plain = {1: ["a", ("b", 2.5, None, True)], "s": {3, 4}, "f": frozenset([5]), "b": b"\0"}
    file = tmp_path / "plain.pickle"
    file.write_bytes(pickle.dumps({**plain, "n": np.float32(1.5), "array": np.arange(3)}, protocol=protocol))
    found = read_plain_pickle(file)
    assert found.pop("array").tolist() == [0, 1, 2]
    assert found.pop("n") == 1.5
    assert found == plain


def test_arrays_of_objects_and_damaged_pickles_are_refused(tmp_path):
    file = tmp_path / "other.pickle"
    made = tmp_path / "made"
    for content in (b"no pickle", pickle.dumps({1: 2})[:-3], pickle.dumps(np.array([Program(made)], dtype=object))):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"other\.pickle is not opened"):
            read_plain_pickle(file)
    assert not made.exists()
    with pytest.raises(DataError, match="cannot be read"):
        read_plain_pickle(tmp_path / "nowhere.pickle")
