"""Stored pixels are the processor's own, however they were made."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessor, SiglipImageProcessor, ViTImageProcessor

from recbole_perpeft.content import ContentError, pixels
from recbole_perpeft.content.pictures import open_picture
from recbole_perpeft.content.pixels import ensure_pixels, process_picture

from .bad_server import header_of_a_bomb
from .conftest import save_picture

PROCESSORS = {
    "clip": CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16),
    "siglip": SiglipImageProcessor(size={"height": 16, "width": 16}),
    "vit": ViTImageProcessor(size={"height": 16, "width": 12}),
}


@pytest.fixture
def pictures(tmp_path) -> list[Path | None]:
    """Ten pictures of all shapes, with one missing."""
    for number in range(10):
        save_picture(tmp_path / f"{number}.png", number, size=(10 + 3 * number, 40 - 3 * number))
    return [None, *(tmp_path / f"{number}.png" for number in range(10))]


@pytest.fixture
def make(tmp_path, pictures):
    def call(paths=pictures, processor=PROCESSORS["clip"], **options):
        ids = [f"item {row}" for row in range(len(paths))]
        return ensure_pixels(tmp_path / "cache", ids, paths, processor, show_progress=False, **options)

    return call


def load(store: Path) -> np.ndarray:
    return np.load(store / "pixels.npy")


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS.keys())
def test_equal_to_the_processor(processor, make, pictures):
    stored = load(make(processor=processor)[0])
    assert stored.dtype == np.uint8

    opened = [open_picture(path) for path in pictures[1:]]
    direct = processor(opened, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(stored[1:], direct)

    usual = processor(opened, return_tensors="np")["pixel_values"]
    mean, std = np.array(processor.image_mean)[:, None, None], np.array(processor.image_std)[:, None, None]
    np.testing.assert_allclose((stored[1:] * processor.rescale_factor - mean) / std, usual, atol=1e-5)


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS.keys())
def test_missing_picture_is_the_mean_colour(processor, make):
    colour = np.round(255 * np.array(processor.image_mean)).astype(np.uint8)
    blank = load(make(processor=processor)[0])[0]
    np.testing.assert_array_equal(blank, np.broadcast_to(colour[:, None, None], blank.shape))


def test_several_threads_equal_one(make, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "CHUNK", 1)
    one, _ = make(workers=1)
    alone = load(one)
    one.rename(tmp_path / "one")
    four, reused = make(workers=4)
    assert not reused
    np.testing.assert_array_equal(load(four), alone)


def test_killed_run_goes_on_at_its_last_chunk(make, pictures, monkeypatch):
    monkeypatch.setattr(pixels, "CHUNK", 2)
    opened = []

    def open_and_count(path):
        if len(opened) == 5:
            raise KeyboardInterrupt
        opened.append(path)
        return open_picture(path)

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "open_picture", open_and_count)
        with pytest.raises(KeyboardInterrupt):
            make(workers=1)
    before = opened.copy()
    monkeypatch.setattr(pixels, "open_picture", lambda path: opened.append(path) or open_picture(path))
    store, reused = make(workers=1)

    assert not reused
    assert opened[len(before) :] == pictures[6:]  # chunks of rows 0-1, 2-3 and 4-5 were done
    for row in range(1, 11):
        expected = process_picture(open_picture(pictures[row]), PROCESSORS["clip"])
        np.testing.assert_array_equal(load(store)[row], expected)


@pytest.mark.parametrize("workers", [1, 3])
def test_bad_pictures_are_reported_together(workers: int, make, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "CHUNK", 6)
    for number in (1, 2, 4, 6, 8, 9):
        pictures[number + 1].write_bytes(b"")
    pictures[3].write_bytes(b"no picture")
    with pytest.raises(ContentError) as info:
        make(workers=workers)
    lines = str(info.value).splitlines()
    assert lines[0] == "6 of 10 pictures cannot be used:"
    assert lines[1] == f"  item 'item 2': {pictures[2]}: the file is empty (0 bytes)"
    assert lines[2].startswith(f"  item 'item 3': {pictures[3]}: not a picture")
    assert lines[6] == "  and 1 more"
    assert "`missing_content: neutral`" in lines[8]
    listed = Path(lines[7].removeprefix("All of them are listed in ").removesuffix("."))
    assert [line.split("\t")[0] for line in listed.read_text().splitlines()] == [
        f"item {number}" for number in (2, 3, 5, 7, 9, 10)
    ]
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_unusable_pictures_are_shown_as_the_mean_colour_and_listed(make, pictures, tmp_path):
    whole = load(make()[0])
    cut, bomb = pictures[10].read_bytes()[:80], header_of_a_bomb()
    for number, data in ((2, b""), (5, b"<html>404</html>"), (7, bomb), (9, cut)):
        pictures[number + 1].write_bytes(data)
    bad = [3, 6, 8, 10]
    store, reused = make(missing_content="neutral")
    assert not reused
    rows = [row for row in range(11) if row not in bad]
    np.testing.assert_array_equal(load(store)[rows], whole[rows])
    np.testing.assert_array_equal(load(store)[bad], whole[[0, 0, 0, 0]])
    listed = [line.split("\t") for line in (store / "unusable_pictures.tsv").read_text().splitlines()]
    assert [line[:2] for line in listed] == [[f"item {row}", str(pictures[row])] for row in bad]
    reasons = ["the file is empty", "not a picture in ", "more than 89,478,", "cut short or dama"]
    assert [line[2][:17] for line in listed] == reasons
    assert make(missing_content="neutral") == (store, True)
    with pytest.raises(ContentError, match="4 of 10 pictures cannot be used"):  # of a store that was made before
        make()


def test_pictures_none_of_which_can_be_used_are_refused(make, pictures):
    for path in pictures[1:]:
        path.write_bytes(b"")
    with pytest.raises(ContentError, match=r"10 of 10 pictures[^$]*modalities: \[text\]"):
        make(missing_content="neutral")


@pytest.mark.parametrize("missing_content", ["error", "neutral"])
def test_a_killed_run_does_not_hide_a_bad_picture(make, pictures, monkeypatch, missing_content):
    monkeypatch.setattr(pixels, "CHUNK", 2)
    pictures[3].write_bytes(b"no picture")

    def open_some(path):
        if path == pictures[8]:
            raise KeyboardInterrupt
        return open_picture(path)

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "open_picture", open_some)
        with pytest.raises(KeyboardInterrupt):
            make(workers=1, missing_content=missing_content)
    if missing_content == "neutral":
        store, _ = make(workers=1, missing_content=missing_content)
        assert [line[:6] for line in (store / "unusable_pictures.tsv").read_text().splitlines()] == ["item 3"]
    with pytest.raises(ContentError, match="1 of 10 pictures"):
        make(workers=1)


@pytest.mark.parametrize("missing_content", ["error", "neutral"])
def test_a_processor_without_fixed_size(make, missing_content):
    with pytest.raises(ContentError, match=r"9 of 10 pictures .*\n.*makes it \[3, .*\] and others"):
        make(
            missing_content=missing_content,
            processor=CLIPImageProcessor(size={"shortest_edge": 16}, do_center_crop=False),
        )


def test_a_processor_that_gives_no_uint8():
    class Rescaling(CLIPImageProcessor):
        def __call__(self, images, **options):
            return super().__call__(images, return_tensors="np")

    with pytest.raises(ContentError, match=r"Rescaling gives float\d+ \[1, 3, 16, 16\] .* uint8"):
        process_picture(Image.new("RGB", (20, 20)), Rescaling(size={"shortest_edge": 16}, crop_size=16))


def test_a_processor_that_fails():
    class Failing(CLIPImageProcessor):
        def __call__(self, images, **options):
            raise TypeError("no such option")

    with pytest.raises(ContentError, match="processor Failing fails \\(no such option\\)"):
        process_picture(Image.new("RGB", (20, 20)), Failing(size={"shortest_edge": 16}, crop_size=16))


def test_channels_last_are_turned():
    class ChannelsLast(CLIPImageProcessor):
        def __call__(self, images, **options):
            out = super().__call__(images, **options)
            out["pixel_values"] = out["pixel_values"].transpose(0, 2, 3, 1)
            return out

    settings = {"size": {"shortest_edge": 16}, "crop_size": 16}
    image = Image.effect_mandelbrot((30, 20), (-2, -1, 1, 1), 20).convert("RGB")
    last, first = (process_picture(image, cls(**settings)) for cls in (ChannelsLast, CLIPImageProcessor))
    np.testing.assert_array_equal(last, first)


def test_of_another_catalogue_only_new_files_are_opened(make, pictures, tmp_path, monkeypatch):
    before = load(make()[0])
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    save_picture(tmp_path / "new.png", 99, size=(20, 30))
    make([None, broken, *pictures[1:3]], missing_content="neutral")
    opened = []

    def open_and_note(path):
        opened.append(path.name)
        return open_picture(path)

    monkeypatch.setattr(pixels, "open_picture", open_and_note)
    store, reused = make([None, pictures[7], tmp_path / "new.png", broken, pictures[2]], missing_content="neutral")
    assert not reused
    assert opened == ["new.png", "broken.png"]  # which is reported again
    np.testing.assert_array_equal(load(store)[[0, 1, 4]], before[[0, 7, 2]])
    np.testing.assert_array_equal(
        load(store)[2], process_picture(open_picture(tmp_path / "new.png"), PROCESSORS["clip"])
    )
    assert "broken.png" in (store / "unusable_pictures.tsv").read_text()
    opened.clear()
    make([None, *pictures[1:3]], processor=PROCESSORS["siglip"])
    assert opened == ["0.png", "1.png"]
