"""Amazon Reviews 2023: a small pair of files by hand."""

import gzip
import json

import pytest

from recbole_perpeft.config import Config
from recbole_perpeft.data import create_dataset
from recbole_perpeft.data.sources.amazon2023 import Picture, main_picture
from recbole_perpeft.utils.errors import DataError


def review(user, product, time, rating=5.0, verified=True):
    return {
        "rating": rating, "title": "Great", "text": "Bought it\nagain", "images": [], "asin": f"{product}-red",
        "parent_asin": product, "user_id": user, "timestamp": time, "helpful_vote": 0, "verified_purchase": verified,
    }  # fmt: skip


REVIEWS = [
    review("ann", "B1", 1_600_000_000_123),
    review("ann", "B2", 1_600_000_000_001, rating=2),
    review("ann", "B1", 1_500_000_000_000),  # the earlier of the two
    review("bob", "B1", 3, verified=False),
    review("bob", "B2", 4, rating=4.0),
    review("null", "B1", 5),
    review("eve", "B9", 6),
]
PRODUCTS = [
    {
        "parent_asin": "B2", "title": 'Golf "bag" &amp; 12"', "features": ["light", "wet\tproof"], "description": [],
        "store": None, "categories": ["Sports", "Golf"], "price": "from 9", "details": {"a": {"b": 1}},
        "images": [{"thumb": "https://x/t2.jpg", "large": "https://x/l2.jpg", "hi_res": None, "variant": "MAIN"}],
    },
    {"parent_asin": "B1", "title": "Tent", "images": [
        {"thumb": "https://x/t0.jpg", "large": "https://x/l0.jpg", "hi_res": "https://x/h0.jpg", "variant": "PT01"},
        {"thumb": "https://x/t1.jpg", "large": "https://x/l1.jpg", "hi_res": "https://x/h1.jpg", "variant": "MAIN"},
    ]},
    {"parent_asin": "B1", "title": "Tent, again"},
    {"parent_asin": "B7", "title": "nobody bought it"},
]  # fmt: skip


@pytest.fixture
def files(tmp_path):
    reviews, meta = tmp_path / "Camp.jsonl.gz", tmp_path / "meta_Camp.jsonl"
    reviews.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in REVIEWS).encode()))
    meta.write_text("".join(json.dumps(row) + "\n" for row in PRODUCTS))
    return reviews, meta


def test_purchases_titles_addresses_and_settings(prepare, files):
    shop = prepare("Camp", "amazon2023", *files)
    assert shop.purchases() == [
        ("ann", "B2", 1_600_000_000_001, 2.0),
        ("ann", "B1", 1_500_000_000_000, 5.0),
        ("bob", "B1", 3, 5.0),
        ("bob", "B2", 4, 4.0),
        ("eve", "B9", 6, 5.0),
    ]
    assert shop.texts("title") == {"B2": ('Golf "bag" &amp; 12"',), "B1": ("Tent",)}
    assert (shop.folder / "Camp.urls.tsv").read_text() == (
        "B2\thttps://x/l2.jpg\thttps://x/t2.jpg\nB1\thttps://x/h1.jpg\thttps://x/l1.jpg\thttps://x/t1.jpg\n"
    )
    assert shop.settings == {
        "dataset": "Camp", "data_path": str(prepare.out), "modalities": ["text"], "text_fields": ["title"],
        "missing_content": "neutral",
    }  # fmt: skip
    printed = prepare.printed()
    assert f"--config_files={shop.folder}/Camp.yaml" in printed
    assert f"prepare pictures {shop.folder}" in printed
    log = prepare.log()
    assert "Repeat purchases of an item, of which the first is kept: 1 left out" in log
    assert "1 user ids of" in log
    assert "1 of 3 products are not in" in log


def test_recbole_loads_what_was_written(prepare, files, monkeypatch, tmp_path):
    shop = prepare("Camp", "amazon2023", *files, "--k_core", 2)
    monkeypatch.chdir(tmp_path)
    no_filter = {"user_inter_num_interval": "[0,inf)", "val_interval": {"rating": "[1,5]"}}
    dataset = create_dataset(Config("BPR", None, [shop.folder / "Camp.yaml"], no_filter))
    ids = (dataset.id2token(field, dataset.inter_feat[field]) for field in ("user_id", "item_id"))
    columns = (dataset.inter_feat[field].tolist() for field in ("timestamp", "rating"))
    assert sorted(zip(*ids, *columns, strict=True)) == sorted(shop.purchases())


def test_ratings_verified_purchases_and_the_core(prepare, files):
    shop = prepare("camp", "amazon2023", *files, "--name", "camp", "--min_rating", 3, "--verified_only")
    assert [row[:2] for row in shop.purchases()] == [("ann", "B1"), ("bob", "B2"), ("eve", "B9")]
    core = prepare("core", "amazon2023", *files, "--name", "core", "--k_core", 2)
    assert {row[:2] for row in core.purchases()} == {("ann", "B1"), ("ann", "B2"), ("bob", "B1"), ("bob", "B2")}
    assert "missing_content" not in core.settings


def test_columns_are_texts_in_the_order_of_the_command(prepare, files):
    shop = prepare("Camp", "amazon2023", *files, "--k_core", 2, "--columns", "features", "title", "store", "categories")
    assert shop.texts("features", "title", "store", "categories") == {
        "B2": ("light wet proof", 'Golf "bag" &amp; 12"', "", "Sports Golf"), "B1": ("", "Tent", "", ""),
    }  # fmt: skip
    assert shop.settings["text_fields"] == ["features", "title", "store", "categories"]


def test_files_in_the_wrong_order_are_told(prepare, files):
    with pytest.raises(DataError, match=r"meta_Camp\.jsonl, line 1: .*Is it a file of another kind"):
        prepare("Camp", "amazon2023", *reversed(files))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"rating": 5.0', '"rating": NaN', r"`float` >= .* at `\$\.rating`"),
        ('"timestamp": ', '"timestamp": 99999999999999999999', r"`int` <= .* at `\$\.timestamp`"),
    ],
)
def test_a_number_that_is_none_is_told_with_its_line(prepare, files, old, new, told):
    text = gzip.decompress(files[0].read_bytes()).decode()
    assert old in text
    files[0].write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=rf"Camp\.jsonl\.gz, line \d+: Expected {told}"):
        prepare("Camp", "amazon2023", *files)


def test_a_damaged_file_of_products_leaves_what_was_there(prepare, files):
    shop = prepare("Camp", "amazon2023", *files, "--k_core", 2)
    before = (shop.folder / "Camp.item").read_bytes()
    files[1].write_text(files[1].read_text() + '{"parent_asin": "B8", "ti')
    with pytest.raises(DataError, match=r"meta_Camp\.jsonl, line 5 is no JSON"):
        prepare("Camp", "amazon2023", *files, "--k_core", 2, "--columns", "store")
    assert (shop.folder / "Camp.item").read_bytes() == before
    assert not list(shop.folder.glob("*.tmp"))


def test_the_main_picture_is_the_marked_one_or_the_first():
    first = Picture("PT01", None, "l1", "t 1")
    assert main_picture([first, Picture("MAIN", "h", None, "t")]) == ["h", "t"]
    assert main_picture([first]) == ["l1"]  # an address with a blank is none
    assert main_picture([]) == []
