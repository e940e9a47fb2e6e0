"""Every kind of picture that a shop has opens as RGB; what is none says why."""

import struct

import numpy as np
import pytest
from PIL import Image

from recbole_perpeft.content import ContentError
from recbole_perpeft.content.picture_files import find_by_column, find_by_item_id
from recbole_perpeft.content.pictures import open_picture
from tests.content.bad_server import header_of_a_bomb

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def corner_colours(path) -> list[tuple[int, ...]]:
    """Colours at the left and right end of a picture."""
    image = open_picture(path)
    assert image.mode == "RGB"
    return [image.getpixel((0, 0)), image.getpixel((image.width - 1, 0))]


def two_colours(left, right, mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (40, 20), left)
    image.paste(right, (20, 0, 40, 20))
    return image


FORMATS = {
    "jpg": {"quality": 95}, "png": {}, "webp": {}, "gif": {}, "AVIF": {}, "bmp": {}, "tif": {}, "Tiff": {},
    "jp2": {}, "JFIF": {"quality": 95, "format": "JPEG"}, "ppm": {}, "ico": {"sizes": [(40, 20)]},
}  # fmt: skip


@pytest.mark.parametrize(("extension", "options"), FORMATS.items())
def test_formats(extension: str, options: dict, tmp_path):
    two_colours(RED, GREEN).save(tmp_path / f"x.{extension}", **options)
    (path,) = find_by_item_id(["x"], tmp_path, ".")
    np.testing.assert_allclose(corner_colours(path), [RED, GREEN], atol=8)
    path.rename(tmp_path / "x.png")  # what is in a file counts, not how it is called
    np.testing.assert_allclose(corner_colours(tmp_path / "x.png"), [RED, GREEN], atol=8)


def test_of_several_pictures_the_first_in_order_counts(tmp_path):
    for name in ["a.tif", "a.BMP", "a.webp", "b.tiff", "b.bmp", "c.jpg", "c.JPG", "c.Jpg", "d.eps", "d.txt", "d.psd"]:
        (tmp_path / name).touch()
    found = find_by_item_id(["a", "b", "c", "d"], tmp_path, ".")
    assert [path and path.name for path in found] == ["a.webp", "b.bmp", "c.JPG", None]


def test_a_file_without_an_ending_counts_after_those_with_one(tmp_path):
    for name in ("1", "1.png", "2", "3.5", "x.jpg", "x.jpg.png"):
        two_colours(RED, GREEN).save(tmp_path / name, "PNG")
    (tmp_path / "4").mkdir()
    found = find_by_item_id(["1", "2", "3.5", "3", "4", "x.jpg", "x"], tmp_path, ".")
    assert [path and path.name for path in found] == ["1.png", "2", "3.5", None, None, "x.jpg.png", "x.jpg"]
    assert corner_colours(found[1]) == [RED, GREEN]


def test_ids_that_are_no_names_of_files_are_found_as_downloads_name_them(tmp_path):
    for name in ("a b.jpg", "a%2Fb.png", "100%.jpg", "c d.jpg", "c%20d.png"):
        (tmp_path / name).touch()
    found = find_by_item_id(["a b", "a/b", "100%", "c d"], tmp_path, ".")
    assert [path and path.name for path in found] == ["a b.jpg", "a%2Fb.png", "100%.jpg", "c%20d.png"]
    assert find_by_item_id(["c%20d"], tmp_path, ".")[0].name == "c%20d.png"
    assert find_by_item_id(["c d", "c%20d"], tmp_path, ".")[1] is None  # the file is that of the other item


@pytest.mark.parametrize("extension", ["tif", "jpg"])
def test_cmyk_of_print_shops(extension, tmp_path):
    two_colours((0, 255, 255, 0), (255, 0, 255, 0), "CMYK").save(tmp_path / f"x.{extension}", quality=95)
    np.testing.assert_allclose(corner_colours(tmp_path / f"x.{extension}"), [RED, GREEN], atol=8)


def test_a_header_of_a_bomb_is_refused_before_anything_is_decoded(tmp_path):
    (tmp_path / "x.png").write_bytes(header_of_a_bomb())
    with pytest.raises(ContentError, match="more than 89,478,485 pixels, the limit against decompression bombs"):
        open_picture(tmp_path / "x.png")


@pytest.mark.parametrize(("extension", "mode", "value"), [("tif", "F", 0.5), ("tif", "I", 70000)])
def test_values_of_no_known_range_are_refused(extension, mode, value, tmp_path):
    Image.new(mode, (40, 20), value).save(tmp_path / f"x.{extension}")
    with pytest.raises(ContentError, match="floating-point|more than 16 bits"):
        open_picture(tmp_path / f"x.{extension}")


def test_a_document_that_starts_another_program_is_no_picture(tmp_path):
    two_colours(RED, GREEN).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.jpg")
    with pytest.raises(ContentError, match="not a picture in one of the formats"):
        open_picture(tmp_path / "x.jpg")


def test_palette(tmp_path):
    two_colours(RED, GREEN).quantize(4).save(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode == "P"
    assert corner_colours(tmp_path / "x.png") == [RED, GREEN]


@pytest.mark.parametrize("extension", ["png", "gif"])
def test_palette_with_transparency_on_white(extension: str, tmp_path):
    image = two_colours(RED, GREEN).quantize(4)
    image.save(tmp_path / f"x.{extension}", transparency=image.getpixel((39, 0)))
    assert corner_colours(tmp_path / f"x.{extension}") == [RED, WHITE]


def test_rgba_on_white(tmp_path):
    two_colours((255, 0, 0, 128), (0, 255, 0, 0), "RGBA").save(tmp_path / "x.png")
    assert corner_colours(tmp_path / "x.png") == [(255, 127, 127), WHITE]


def test_grey_with_alpha_on_white(tmp_path):
    two_colours((0, 255), (0, 0), "LA").save(tmp_path / "x.png")
    assert corner_colours(tmp_path / "x.png") == [(0, 0, 0), WHITE]


def test_rgb_with_a_transparent_colour_on_white(tmp_path):
    two_colours(RED, GREEN).save(tmp_path / "x.png", transparency=GREEN)
    assert corner_colours(tmp_path / "x.png") == [RED, WHITE]


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    levels = np.array([[0, 257 * 100, 257 * 200, 65535]], dtype=np.uint16)
    Image.fromarray(np.repeat(levels, 4, axis=0)).save(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode.startswith("I")
    assert np.asarray(open_picture(tmp_path / "x.png"))[0, :, 0].tolist() == [0, 100, 200, 255]


def test_one_bit(tmp_path):
    two_colours(0, 1, "1").save(tmp_path / "x.png")
    assert corner_colours(tmp_path / "x.png") == [(0, 0, 0), WHITE]


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_exif_rotation(extension: str, tmp_path):
    path = tmp_path / f"x.{extension}"
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    two_colours(RED, GREEN).save(path, exif=exif, quality=95)
    np.testing.assert_allclose(corner_colours(path), [GREEN, RED], atol=8)
    exif[0x0112] = 6  # turned by 90 degrees
    two_colours(RED, GREEN).save(path, exif=exif, quality=95)
    turned = open_picture(path).resize((10, 20), Image.Resampling.NEAREST)
    np.testing.assert_allclose(np.asarray(turned)[[0, -1], 5], [RED, GREEN], atol=8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("entries", "turned"),
    [
        (b"\xff\xff", False),
        # Turned by 180 degrees, and a resolution that is a text: Pillow fails when it writes the block anew.
        (b"\x02\x00" + struct.pack("<HHIIHHI4s", 0x0112, 3, 1, 3, 0x011A, 2, 2, b"a") + b"\x00" * 4, True),
    ],
)
def test_damaged_exif_is_no_damage_to_the_picture(entries: bytes, turned: bool, tmp_path):
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + entries
    two_colours(*((GREEN, RED) if turned else (RED, GREEN))).save(tmp_path / "x.jpg", exif=exif, quality=95)
    np.testing.assert_allclose(corner_colours(tmp_path / "x.jpg"), [RED, GREEN], atol=8)


@pytest.mark.parametrize("extension", ["gif", "webp", "png"])
def test_animated_gives_the_first_frame(extension: str, tmp_path):
    frames = [two_colours(RED, RED), two_colours(GREEN, GREEN)]
    frames[0].save(tmp_path / f"x.{extension}", save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(tmp_path / f"x.{extension}").n_frames == 2
    assert corner_colours(tmp_path / f"x.{extension}") == [RED, RED]


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "gif"])
@pytest.mark.parametrize("kept", [0.03, 0.5, 0.95])
def test_truncated(extension: str, kept: float, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    path = tmp_path / f"x.{extension}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ContentError, match="cut short or damaged|not a picture"):
        open_picture(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty \\(0 bytes\\)"),
        (b"<html>404</html>", "not a picture in one of the formats JPEG, PNG, WEBP, GIF"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, "damaged|not a picture"),
    ],
)
def test_no_picture(data: bytes, reason: str, tmp_path):
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(ContentError, match=reason):
        open_picture(tmp_path / "x.jpg")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", [700, 300])  # Pillow warns beyond its limit and refuses beyond twice the limit
def test_decompression_bomb(limit: int, tmp_path, monkeypatch):
    two_colours(RED, GREEN).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ContentError, match=f"more than {limit} pixels"):
        open_picture(tmp_path / "x.png")


def test_absurd_shape(tmp_path):
    Image.new("RGB", (3000, 2)).save(tmp_path / "x.png")
    with pytest.raises(ContentError, match="3000 x 2 pixels is not the shape of a picture"):
        open_picture(tmp_path / "x.png")


def test_find_by_item_id(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ["a.jpg", "b.png", "b.jpeg", "c.WEBP", "d.txt", "e.f.png"]:
        (tmp_path / "images" / name).touch()
    (tmp_path / "images" / "g.jpg").mkdir()
    found = find_by_item_id(["a", "b", "c", "d", "e.f", "g"], tmp_path, "images")
    assert [path and path.name for path in found] == ["a.jpg", "b.jpeg", "c.WEBP", None, "e.f.png", None]


def test_absolute_image_dir(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").touch()
    found = find_by_item_id(["a"], tmp_path / "shop", str(tmp_path / "elsewhere"))
    assert found == [tmp_path / "elsewhere" / "a.jpg"]


@pytest.mark.parametrize("item_id", ["../secret", "sub/secret", "..", "/etc/passwd", ""])
def test_item_ids_do_not_leave_the_folder(item_id: str, tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for path in [tmp_path / "secret.jpg", tmp_path / "images" / "sub" / "secret.jpg"]:
        path.touch()
    assert find_by_item_id([item_id], tmp_path, "images") == [None]


def test_no_image_dir(tmp_path):
    with pytest.raises(ContentError, match="no folder .*pictures: set `image_dir`"):
        find_by_item_id(["a"], tmp_path, "pictures")


def test_find_by_column(tmp_path):
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "1.jpg").touch()
    paths = {"a": "pics/1.jpg", "b": "pics/2.jpg", "c": "", "d": "pics", "e": "pics/../pics/1.jpg"}
    found = find_by_column(["a", "b", "c", "d", "e", "unknown"], paths, tmp_path)
    assert [path and path.name for path in found] == ["1.jpg", None, None, None, "1.jpg", None]


@pytest.mark.parametrize("value", ["../secret.jpg", "/etc/passwd", "pics/../../secret.jpg", ".."])
def test_paths_do_not_leave_the_folder(value: str, tmp_path):
    with pytest.raises(ContentError, match="item 'a' .* outside the data set's folder"):
        find_by_column(["a"], {"a": value}, tmp_path)


def test_a_link_that_leads_to_itself_is_no_picture(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "images" / "a.png")
    assert find_by_item_id(["a"], tmp_path, "images") == [None]
