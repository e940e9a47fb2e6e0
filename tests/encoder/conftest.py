"""Tiny models and a small catalogue, made once for all encoder tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recbole_perpeft.content import ItemContent, prepare_content
from recbole_perpeft.encoder import FoundationModel, build_item_encoder
from tests.foundations import load_once
from tests.tiny_models import save_tiny_bert, save_tiny_clip, save_tiny_siglip, save_tiny_stages, save_tiny_vit

TITLES = ["golf travel bag", "tent", "a very long title", "ball", "shoe 42", "x", "camp stove", "red hat"]
ITEMS = torch.arange(1, len(TITLES) + 1)
SOURCES = {
    "clip": {"encoder": "clip"},
    "siglip": {"encoder": "siglip"},
    "pair": {"image_encoder": "vit", "text_encoder": "bert"},
}


def all_parameters(encoder):
    """Parameters of the modules of all groups."""
    return [p for group in range(encoder.num_groups) for _, p in encoder.adapter_parameters(group)]


def train(encoder, optimizer, group, steps, seed):
    """Take steps that pull features of a group to random targets."""
    targets = torch.randn(len(ITEMS), encoder.feature_dim, generator=torch.Generator().manual_seed(seed))
    for _ in range(steps):
        optimizer.zero_grad()
        (encoder.encode(ITEMS, group) - targets).square().sum().backward()
        optimizer.step()


def trained(encoder, group=1, steps=3, learning_rate=0.05):
    """``encoder`` after some steps on a group, without gradients."""
    optimizer = torch.optim.AdamW(all_parameters(encoder), lr=learning_rate)
    train(encoder, optimizer, group, steps, seed=0)
    optimizer.zero_grad()
    return encoder


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny models lose more time to waiting threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """Folder with the tiny models ``clip``, ``siglip``, ``vit``, ``swin``, ``convnext`` and ``bert``."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny_clip(folder / "clip")
    save_tiny_siglip(folder / "siglip")
    save_tiny_vit(folder / "vit")
    save_tiny_bert(folder / "bert")
    save_tiny_stages(folder)
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
    """Function that prepares the catalogue for a foundation model, in a cache of all tests or another; ids 1 to 8."""

    def make(foundation: FoundationModel, cache: Path | None = None) -> ItemContent:
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
            cache_dir=cache or catalogue / "cache",
            show_progress=False,
        )

    return make


@pytest.fixture
def build(models, content_for):
    """Function that builds an item encoder over one of the SOURCES, or over settings that name models."""

    def make(
        peft_type="LORA",
        source="clip",
        num_groups=4,
        peft_config=None,
        modalities=("image", "text"),
        cache=None,
        **options,
    ):
        names = SOURCES[source] if isinstance(source, str) else source
        foundation = load_once(**{key: str(models / name) for key, name in names.items()}, modalities=modalities)
        content = content_for(foundation, cache)
        return build_item_encoder(foundation, content, peft_type, peft_config, num_groups, **options)

    return make
