"""Tiny models and a small catalogue, made once for all encoder tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recbole_perpeft.content import ItemContent, prepare_content
from recbole_perpeft.encoder import FoundationModel
from tests.tiny_models import save_tiny_bert, save_tiny_clip, save_tiny_siglip, save_tiny_vit

TITLES = ["golf travel bag", "tent", "a very long title", "ball", "shoe 42", "x", "camp stove", "red hat"]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny models lose more time to waiting threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """Folder with the tiny models ``clip``, ``siglip``, ``vit`` and ``bert``."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny_clip(folder / "clip")
    save_tiny_siglip(folder / "siglip")
    save_tiny_vit(folder / "vit")
    save_tiny_bert(folder / "bert")
    return folder


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory) -> Path:
    """Folder with eight items: ``shop.item`` and pictures of noise of different sizes."""
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    lines = ["item_id:token\ttitle:token_seq"]
    for i, title in enumerate(TITLES):
        lines.append(f"i{i}\t{title}")
        noise = rng.integers(0, 256, (40 + 4 * i, 60 - 3 * i, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"i{i}.png")
    (folder / "shop.item").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def content_for(catalogue):
    """Function that prepares the catalogue for a foundation model; item ids 1 to 8."""

    def make(foundation: FoundationModel) -> ItemContent:
        return prepare_content(
            ["[PAD]", *(f"i{i}" for i in range(len(TITLES)))],
            catalogue,
            item_file=catalogue / "shop.item",
            modalities=foundation.modalities,
            text_fields=["title"],
            text_template=None,
            image_field=None,
            image_dir="images",
            missing_content="error",
            image_processor=foundation.image_processor,
            tokenizer=foundation.tokenizer,
            max_text_length=foundation.max_text_length,
            fixed_text_length=foundation.fixed_text_length,
            cache_dir=catalogue / "cache",
            show_progress=False,
        )

    return make
