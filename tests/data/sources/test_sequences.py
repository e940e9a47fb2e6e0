"""A line a user, a line an item."""

import pytest

from recbole_perpeft.utils.errors import DataError


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "camp"
    folder.mkdir()
    (folder / "users.tsv").write_text("ann\tx y x\nbob\ty\n")
    (folder / "items.tsv").write_text('y\tA "tent"\tfor two\nx\tBag\nz\tnot bought\n')
    return folder


def test_places_are_times_and_repeats_stay(prepare, source):
    shop = prepare("camp", "sequences", source)
    assert shop.purchases() == [("ann", "x", 0), ("ann", "y", 1), ("ann", "x", 2), ("bob", "y", 0)]
    assert shop.texts("title") == {"y": ('A "tent" for two',), "x": ("Bag",), "z": ("not bought",)}
    assert shop.settings["text_fields"] == ["title"]
    assert "missing_content" not in shop.settings


def test_items_without_a_title_are_counted(prepare, source):
    (source / "items.tsv").write_text("x\tBag\ny\t \n")
    assert prepare("camp", "sequences", source).settings["missing_content"] == "neutral"
    assert "1 of 2 items have no title" in prepare.log()


def test_a_line_without_a_tab_is_named(prepare, source):
    (source / "users.tsv").write_text("ann\tx\nbob y\n")
    with pytest.raises(DataError, match=r"users\.tsv, line 2: 'bob y' has no tab"):
        prepare("camp", "sequences", source)
    (source / "users.tsv").unlink()
    with pytest.raises(DataError, match=r"users\.tsv cannot be read"):
        prepare("camp", "sequences", source)


def test_a_byte_order_mark_is_no_part_of_an_id(prepare, source):
    for name in ("users.tsv", "items.tsv"):
        (source / name).write_bytes(b"\xef\xbb\xbf" + (source / name).read_bytes())
    shop = prepare("camp", "sequences", source)
    assert shop.purchases()[0] == ("ann", "x", 0)
    assert list(shop.texts("title")) == ["y", "x", "z"]


def test_a_user_on_two_lines_bought_what_is_on_the_second_later(prepare, source):
    (source / "users.tsv").write_text("ann\tx y\nbob\ty\nann\tz x\n")
    bought = [(item, time) for user, item, time in prepare("camp", "sequences", source).purchases() if user == "ann"]
    assert bought == [("x", 0), ("y", 1), ("z", 2), ("x", 3)]


def test_a_quotation_mark_at_the_start_of_a_title_takes_no_other_rows(prepare, source):
    (source / "items.tsv").write_text('y\t"Tent\nx\tBag\nz\t"Golf" ball\n')
    titles = prepare("camp", "sequences", source).texts("title")
    assert titles == {"y": ('"Tent',), "x": ("Bag",), "z": ('"Golf" ball',)}
