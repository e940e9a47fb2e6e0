"""The catalogue is checked, made ready once, and opened ever after."""

import logging
import os

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessor

from recbole_perpeft.content import ContentError, pixels

from .conftest import save_picture


def test_rows_follow_the_item_ids(prepare, tokenizer):
    content = prepare(item_ids=np.array(["[PAD]", "c", "a"], dtype=object))
    assert content.n_items == 3
    assert content.pixels.shape == (3, 3, 16, 16)
    assert [tokenizer.decode(row[:n]) for row, n in zip(content.tokens, content.lengths, strict=True)] == [
        "<pad>",
        "Blue",
        "Red shoe",
    ]
    other = prepare(item_ids=["[PAD]", "a", "c"])
    np.testing.assert_array_equal(content.pixels[[0, 2, 1]], other.pixels)


def test_text_fields_and_template(prepare, tokenizer):
    joined = prepare(text_fields=["title", "genre"])
    assert tokenizer.decode(joined.tokens[1][: joined.lengths[1]]) == "Red shoe. clothes"
    filled = prepare(text_fields=["title", "genre"], text_template="{genre}: {title}")
    assert tokenizer.decode(filled.tokens[1][: filled.lengths[1]]) == "clothes: Red shoe"
    with pytest.raises(ContentError, match=r"names \{brand\}"):
        prepare(text_template="{brand}")


def test_pictures_by_column(prepare):
    by_column = prepare(image_field="picture", image_dir="nowhere")
    np.testing.assert_array_equal(by_column.pixels, prepare().pixels)


def test_second_run_opens_what_is_there(prepare, processor, tokenizer, monkeypatch, caplog):
    first = prepare()

    def forbidden(*_, **__):
        pytest.fail("prepared again")

    monkeypatch.setattr(type(processor), "__call__", forbidden)
    monkeypatch.setattr(type(tokenizer), "__call__", forbidden)
    monkeypatch.setattr(Image, "open", forbidden)
    with caplog.at_level(logging.INFO):
        second = prepare()
    assert second.key == first.key
    np.testing.assert_array_equal(second.pixels, first.pixels)
    assert caplog.text.count("(reused)") == 2


def touch(catalogue):
    os.utime(catalogue / "images" / "a.png", ns=(0, 1))


def repaint(catalogue):
    path = catalogue / "images" / "a.png"
    times = path.stat()
    save_picture(path, seed=99, size=(60, 50))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def retitle(catalogue):
    path = catalogue / "shop.item"
    path.write_text(path.read_text().replace("Red shoe", "Red boot"))


@pytest.mark.parametrize("change", [repaint, retitle])
def test_key_and_hash_change_with_the_files(change, prepare, catalogue):
    before, hashed = prepare().key, prepare().hash
    change(catalogue)
    assert prepare().key != before
    assert prepare().hash != hashed
    assert prepare().key == prepare().key


def test_the_same_bytes_are_the_same_content_whenever_they_were_written(prepare, catalogue, monkeypatch):
    before, hashed = prepare().key, prepare().hash
    touch(catalogue)
    assert (prepare().key, prepare().hash) == (before, hashed)
    monkeypatch.setattr("recbole_perpeft.content.store.FORMAT_VERSION", 0)  # the stores have other names
    elsewhere = prepare()
    assert elsewhere.key != before
    assert elsewhere.pictures_decoded
    assert prepare().hash == elsewhere.hash


@pytest.mark.parametrize(
    "change",
    [
        {"image_processor": CLIPImageProcessor(size={"shortest_edge": 20}, crop_size=16)},
        {"max_text_length": 16},
        {"text_template": "A {title}"},
        {"fixed_text_length": True},
        {"modalities": ("text",)},
        {"item_ids": ["[PAD]", "b", "a", "c"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_key_changes_with_the_settings(change: dict, prepare):
    assert prepare().key != prepare(**change).key


def test_new_titles_leave_the_pictures_alone(prepare, catalogue, monkeypatch):
    prepare()
    retitle(catalogue)
    monkeypatch.setattr(pixels, "open_picture", lambda path: pytest.fail("opened a picture"))
    prepare()


def test_a_moved_data_set_is_known_again(prepare, catalogue, tmp_path):
    before = prepare().key
    moved = catalogue.rename(tmp_path / "moved")
    assert prepare(folder=moved, item_file=moved / "shop.item").key == before


def test_only_what_is_wanted_is_read(prepare, catalogue):
    (catalogue / "shop.item").unlink()
    assert prepare(modalities=("image",), tokenizer=None).tokens is None
    with pytest.raises(ContentError, match=r"item file .*shop\.item cannot be read"):
        prepare(modalities=("text",))
    retitled = "item_id:token\ttitle:token_seq\na\tx\nb\ty\nc\tz\n"
    (catalogue / "shop.item").write_text(retitled)
    (catalogue / "images").rename(catalogue / "hidden")
    assert prepare(modalities=("text",), image_processor=None).pixels is None
    with pytest.raises(ContentError, match="`image_dir`"):
        prepare()


def test_missing_picture(prepare, catalogue, processor, caplog):
    (catalogue / "images" / "b.png").unlink()
    with pytest.raises(ContentError, match=r"1 of 3 items have no picture in .*images: 'b'.*missing_content: neutral"):
        prepare()
    with caplog.at_level(logging.INFO):
        content = prepare(missing_content="neutral")
    np.testing.assert_array_equal(content.pixels[2], content.pixels[0])
    assert content.pixels[2, :, 0, 0].tolist() == [round(255 * mean) for mean in processor.image_mean]
    assert "2 pictures (1 missing, the mean colour stands in), 3 texts" in caplog.text
    assert "(made)" in caplog.text


def test_unreadable_picture(prepare, catalogue, caplog):
    (catalogue / "images" / "b.png").write_bytes(b"<html>404</html>")
    with pytest.raises(ContentError, match=r"1 of 3 pictures cannot be used:\n  item 'b': .*b\.png: not a picture"):
        prepare()
    caplog.set_level(logging.INFO)
    for _ in range(2):  # made, then found
        caplog.clear()
        content = prepare(missing_content="neutral")
        np.testing.assert_array_equal(content.pixels[2], content.pixels[0])
        assert "1 of 3 pictures cannot be used:" in caplog.text
        assert "Item content: 3 pictures (of which 1 cannot be used), 3 texts" in caplog.text
        (listed,) = catalogue.parent.glob("cache/pixels-*/unusable_pictures.tsv")
        assert f"All of them are listed in {listed}. The mean colour stands in for them." in caplog.text


def test_missing_text(prepare):
    ids = ["[PAD]", "a", *(f"new {number}" for number in range(7))]
    with pytest.raises(ContentError, match="7 of 8 items have no text in .*title") as info:
        prepare(item_ids=ids, modalities=("text",))
    assert "'new 0', 'new 1', 'new 2', 'new 3', 'new 4', …" in str(info.value)
    content = prepare(item_ids=ids, modalities=("text",), missing_content="neutral")
    np.testing.assert_array_equal(content.tokens[2], content.tokens[0])


def test_blank_text_is_missing(prepare, catalogue):
    (catalogue / "shop.item").write_text("item_id:token\ttitle:token_seq\na\tShoe\nb\t \nc\tHat\n")
    with pytest.raises(ContentError, match="1 of 3 items have no text .*: 'b'"):
        prepare(text_template="A {title}!")


@pytest.mark.parametrize("missing_content", ["error", "neutral"])
def test_all_missing(missing_content: str, prepare, catalogue):
    with pytest.raises(ContentError, match=r"None of the 2 items \('x', 'y'\) has a text .*`modalities: \[image\]`"):
        prepare(item_ids=["[PAD]", "x", "y"], modalities=("text",), missing_content=missing_content)
    for path in (catalogue / "images").iterdir():
        path.unlink()
    with pytest.raises(ContentError, match=r"None of the 3 items .* has a picture .*`modalities: \[text\]`"):
        prepare(missing_content=missing_content)


def test_missing_texts_are_found_before_pictures_are_opened(prepare, catalogue, monkeypatch):
    monkeypatch.setattr(pixels, "open_picture", lambda path: pytest.fail("opened a picture"))
    rows = "item_id:token\ttitle:token_seq\na\tShoe\nc\tHat\n"
    (catalogue / "shop.item").write_text(rows)
    with pytest.raises(ContentError, match="1 of 3 items have no text .*'b'"):
        prepare()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modalities": ()}, r"`modalities: \(\)` must be a list"),
        ({"modalities": ("image", "sound")}, "one or both of image, text"),
        ({"modalities": "text"}, "must be a list"),
        ({"missing_content": "ignore"}, "`missing_content: ignore` must be one of error, neutral"),
        ({"image_processor": None}, r"no image processor: drop it with `modalities: \[text\]`"),
        ({"tokenizer": None}, r"no tokenizer: drop it with `modalities: \[image\]`"),
        ({"text_fields": []}, "`text_fields` is empty"),
        ({"text_fields": ["titel"]}, "no column 'titel'.*Did you mean 'title'"),
        ({"image_field": "pictures"}, "no column 'pictures'.*Did you mean 'picture'"),
    ],
)
def test_bad_settings(settings: dict, message: str, prepare):
    with pytest.raises(ContentError, match=message):
        prepare(**settings)


def test_items_that_an_encoder_cannot_tell_apart_are_named_in_the_log(catalogue, prepare, caplog):
    prepare()
    assert "another item" not in caplog.text
    (catalogue / "images" / "b.png").write_bytes((catalogue / "images" / "a.png").read_bytes())
    text = (catalogue / "shop.item").read_text()
    (catalogue / "shop.item").write_text(text.replace("Blue", "Red shoe"))
    prepare()
    assert "2 of 3 items have the text of another item, 2 of them 'Red shoe'" in caplog.text
    assert f"2 of 3 items have the picture {catalogue / 'images' / 'a.png'}" in caplog.text
