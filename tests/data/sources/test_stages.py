"""A preparation that was killed goes on from what is done, and takes nothing of other files or options for it."""

import os

import pytest

from recbole_perpeft.utils.errors import DataError


def numbers(written):
    """Numbers by which the disk knows the files: a file that was written anew has another."""
    return {kind: (written.folder / f"{written.name}.{kind}").stat().st_ino for kind in ("inter", "item", "urls.tsv")}


def test_who_is_killed_among_the_products_reads_the_reviews_once(prepare, shop, stuck_at_products):
    with stuck_at_products() as process:
        pass
    folder = prepare.out / "Camp"
    assert process.exitcode == -9
    assert [file.name for file in folder.glob("*.tmp")] == [f"Camp.item.{process.pid}.tmp"]
    before = (folder / "Camp.inter").stat()
    camp = prepare("Camp", "amazon2023", *shop)
    after = (folder / "Camp.inter").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (
        f"Done before, of the same {shop[0]} and with the same options, and kept: {folder}/Camp.inter" in prepare.log()
    )
    assert not list(folder.glob("*.tmp"))
    anew = prepare("anew", "amazon2023", *shop, "--name", "anew")
    assert camp.purchases() == anew.purchases()
    assert camp.texts("title") == anew.texts("title") == {"B1": ("Tent B1",), "B2": ("Tent B2",)}


def test_pictures_that_failed_are_offered_again(prepare, shop):
    product = '{"parent_asin": "B1", "title": "Tent", "images": [{"large": "http://127.0.0.1:9/a.jpg"}]}'
    shop[1].write_text(product)
    with pytest.raises(DataError, match="No picture of Camp could be downloaded"):
        prepare("Camp", "amazon2023", *shop, "--pictures")
    prepare("Camp", "amazon2023", *shop)
    assert f"prepare pictures {prepare.out / 'Camp'}" in prepare.printed()


def older(file):
    os.utime(file, (1, 1))


@pytest.mark.parametrize(
    ("change", "words", "anew"),
    [
        (lambda *_: None, [], set()),
        (lambda reviews, *_: older(reviews), [], {"inter", "item", "urls.tsv"}),
        (lambda *_: None, ["--min_rating", "2"], {"inter", "item", "urls.tsv"}),
        (lambda *_: None, ["--k_core", "1"], {"inter", "item", "urls.tsv"}),
        (lambda reviews, meta, folder: older(meta), [], {"item", "urls.tsv"}),
        (lambda *_: None, ["--columns", "title", "store"], {"item", "urls.tsv"}),
        (lambda reviews, meta, folder: older(folder / "Camp.inter"), [], {"inter", "item", "urls.tsv"}),
        (lambda reviews, meta, folder: older(folder / "Camp.urls.tsv"), [], {"item", "urls.tsv"}),
        (lambda reviews, meta, folder: (folder / "Camp.item").unlink(), [], {"item", "urls.tsv"}),
        (lambda *places: (places[-1] / ".prepared.json").write_text("{"), [], {"inter", "item", "urls.tsv"}),
        (lambda *places: (places[-1] / ".prepared.json").write_text('{"purchases": {}}'), [],
         {"inter", "item", "urls.tsv"}),
    ],
)  # fmt: skip
def test_what_has_changed_is_done_anew_with_all_that_follows_from_it(prepare, shop, change, words, anew):
    camp = prepare("Camp", "amazon2023", *shop)
    keep = camp.folder.parent / "kept"
    keep.mkdir()
    for kind in ("inter", "item", "urls.tsv"):  # so that no file gets a number which has just become free
        os.link(camp.folder / f"Camp.{kind}", keep / kind)
    before = numbers(camp)
    change(*shop, camp.folder)
    after = numbers(prepare("Camp", "amazon2023", *shop, *words))
    assert {kind for kind in before if before[kind] != after[kind]} == anew


def test_an_error_leaves_nothing_that_counts_as_done(prepare, shop):
    good = shop[1].read_text()
    shop[1].write_text(good + "{")
    for _ in range(2):
        with pytest.raises(DataError, match="line 3 is no JSON"):
            prepare("Camp", "amazon2023", *shop)
    assert "kept: " in prepare.log()  # the purchases


def test_what_was_missing_is_told_again(prepare, shop):
    shop[1].write_text(shop[1].read_text().splitlines()[0].replace("Tent B1", "") + "\n")
    for _ in range(2):
        assert prepare("Camp", "amazon2023", *shop).settings["missing_content"] == "neutral"
    assert prepare.log().count("1 of 2 products are not in") == 2
    assert prepare.log().count("1 products have none of title, such as 'B1'") == 2
