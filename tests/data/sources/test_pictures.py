"""Pictures of a data set that was prepared without them."""

import pytest
from PIL import Image

from recbole_perpeft.commands.prepare import main
from recbole_perpeft.utils.errors import DataError

pytest.importorskip("recbole_perpeft.content.downloads")


@pytest.fixture
def shop(prepare, tmp_path):
    (tmp_path / "orders.csv").write_text("u,i\nann,a\nann,b\n")
    (tmp_path / "items.csv").write_text("i,name,link\na,Tent,http://127.0.0.1:9/a.jpg\nb,Bag,\n")
    return prepare("orders", "table", tmp_path / "orders.csv", tmp_path / "items.csv", "--user", "u", "--item", "i",
                   "--columns", "name", "--image_urls", "link")  # fmt: skip


def test_what_is_there_is_not_fetched_again_and_the_settings_know_of_it(shop):
    (shop.folder / "images").mkdir()
    Image.new("RGB", (4, 4)).save(shop.folder / "images" / "a.png")
    assert shop.settings["modalities"] == ["text"]
    assert main(["pictures", str(shop.folder)]) == 0
    assert "modalities" not in shop.settings
    assert shop.settings["image_dir"] == "images"
    assert shop.settings["missing_content"] == "neutral"  # b has no picture


def test_where_no_picture_can_be_had_the_settings_stay(shop):
    before = shop.settings
    with pytest.raises(DataError, match="No picture of orders could be downloaded"):
        main(["pictures", str(shop.folder)])
    assert shop.settings == before
    assert [file.name for file in (shop.folder / "images").iterdir()] == ["pictures_failed.tsv"]


def test_where_there_is_nothing_to_fetch_no_empty_folder_is_left(shop):
    (shop.folder / "orders.urls.tsv").write_text("")
    with pytest.raises(DataError, match="No picture of orders could be downloaded: there are no addresses"):
        main(["pictures", str(shop.folder)])
    assert not (shop.folder / "images").exists()


@pytest.mark.parametrize("name", ["nowhere", "other"])
def test_another_folder_is_refused_and_left_as_it_is(tmp_path, name):
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=rf"{name}/{name}\.urls\.tsv does not exist. Give the folder of a data set"):
        main(["pictures", str(tmp_path / name)])
    assert [file.name for file in tmp_path.rglob("*")] == ["other"]


def test_the_folder_one_stands_in_is_the_data_set(shop, monkeypatch):
    (shop.folder / "images").mkdir()
    Image.new("RGB", (4, 4)).save(shop.folder / "images" / "a.png")
    monkeypatch.chdir(shop.folder)
    assert main(["pictures", "."]) == 0
    assert shop.settings["image_dir"] == "images"
