"""Of content that is known from another run only what is new is opened and encoded, whatever else has changed."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from recbole_perpeft.content import pixels, prepare_content
from recbole_perpeft.encoder import build_item_encoder, load_foundation
from tests.matrix import slow

ITEMS = [f"i{number}" for number in range(8)]
NEW_TITLE = "a title that nobody has read"


@pytest.fixture
def opened(monkeypatch):
    """Names of the pictures that were decoded."""
    names, open_picture = [], pixels.open_picture

    def counted(path):
        names.append(path.name)
        return open_picture(path)

    monkeypatch.setattr(pixels, "open_picture", counted)
    return names


@pytest.fixture
def encode(models, catalogue, tmp_path, opened):
    """``encode(items, cache, …)``: features of items by id, and how many times an item was read for each modality."""
    folder = tmp_path / "first"
    shutil.copytree(catalogue, folder, ignore=shutil.ignore_patterns("cache"))

    def run(items=ITEMS, cache="cache", adapted=True, titles=None, name="first"):
        place = tmp_path / name
        if not place.exists():
            shutil.copytree(folder, place)
        lines = (catalogue / "shop.item").read_text().splitlines()
        rows = dict(line.split("\t") for line in lines[1:]) | (titles or {})
        rows = ["\t".join((item, rows.get(item, NEW_TITLE))) for item in items]
        (place / "shop.item").write_text("\n".join([lines[0], *rows]) + "\n")
        foundation = load_foundation(encoder=str(models / "clip"))
        content = prepare_content(
            ["[PAD]", *items], place, item_file=place / "shop.item", modalities=("image", "text"),
            text_fields=["title"], text_template=None, image_field=None, image_dir="images", missing_content="error",
            image_processor=foundation.image_processor, tokenizer=foundation.tokenizer,
            max_text_length=foundation.max_text_length, fixed_text_length=foundation.fixed_text_length,
            cache_dir=tmp_path / cache, show_progress=False,
        )  # fmt: skip
        layers = {"peft_layers": 1} if adapted else {}
        encoder = build_item_encoder(foundation, content, "LORA" if adapted else None, None, 1, **layers)
        with torch.no_grad():
            found = encoder.encode(torch.arange(1, len(items) + 1), 0)
        return dict(zip(items, found, strict=True)), encoder.item_features.items_prepared

    return run


# what changed; pictures that are opened; items encoded for states below adapted layers (of both modalities, in stores
# of their own) and for features; each store that is made anew encodes one item more, to know how wide it is
CHANGES = {
    "nothing, under another name": ({"name": "second"}, 0, 0, 0),
    "the order": ({"items": ITEMS[::-1]}, 0, 2, 1),
    "items that are gone": ({"items": ITEMS[2:5]}, 0, 2, 1),
    "one title": ({"titles": {"i3": NEW_TITLE}}, 0, 2 + 1, 1 + 1),
    "a new item, with others gone": ({"items": ["new", *ITEMS[:4:-1]], "name": "second"}, 1, 2 + 2, 1 + 1),
}


@pytest.mark.parametrize("adapted", [True, slow(False)], ids=["states", "features"])
@pytest.mark.parametrize(("change", "pictures", "of_states", "of_features"), CHANGES.values(), ids=CHANGES)
def test_only_what_is_new_is_opened_and_encoded(
    encode, opened, tmp_path, adapted, change, pictures, of_states, of_features
):
    encode(adapted=adapted)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    noise = np.random.default_rng(1).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "second" / "images" / "new.png")
    opened.clear()
    found, encoded = encode(adapted=adapted, **change)
    assert len(opened) == pictures
    assert encoded == (of_states if adapted else of_features)
    afresh, _ = encode(cache="other cache", adapted=adapted, **change)
    for item, features in afresh.items():
        torch.testing.assert_close(found[item], features)
