"""Small real processors and tokenizers, and a folder with a small catalogue."""

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPImageProcessor, PreTrainedTokenizerFast

from recbole_perpeft.content import downloads, prepare_content
from tests.content.bad_server import BadServer


def byte_tokenizer(**special_tokens: str) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per byte: decoding gives back exactly what it was given."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special_tokens.values(), *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special_tokens)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer(pad_token="<pad>")


@pytest.fixture
def processor():
    return CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16)


def save_picture(path, seed: int, size: tuple[int, int] = (30, 20)) -> None:
    """Save a picture of random blocks, `size` in pixels as (width, height)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize(size).save(path)


@pytest.fixture
def catalogue(tmp_path):
    """A data set's folder with items a, b and c, each with title, genre, path and picture."""
    folder = tmp_path / "shop"
    (folder / "images").mkdir(parents=True)
    rows = ["item_id:token\ttitle:token_seq\tgenre:token\tpicture:token"]
    for seed, (item_id, title) in enumerate({"a": "Red shoe", "b": "Green hat with a bow", "c": "Blue"}.items()):
        rows.append(f"{item_id}\t{title}\tclothes\timages/{item_id}.png")
        save_picture(folder / "images" / f"{item_id}.png", seed)
    (folder / "shop.item").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def prepare(catalogue, processor, tokenizer, tmp_path):
    """`prepare_content` of the small catalogue, with settings to change."""

    def call(**changes):
        settings = {
            "item_ids": ["[PAD]", "a", "b", "c"],
            "folder": catalogue,
            "item_file": catalogue / "shop.item",
            "modalities": ("image", "text"),
            "text_fields": ["title"],
            "text_template": None,
            "image_field": None,
            "image_dir": "images",
            "missing_content": "error",
            "image_processor": processor,
            "tokenizer": tokenizer,
            "max_text_length": 32,
            "fixed_text_length": False,
            "cache_dir": tmp_path / "cache",
            "show_progress": False,
        }
        settings.update(changes)
        return prepare_content(settings.pop("item_ids"), settings.pop("folder"), **settings)

    return call


@pytest.fixture
def server(monkeypatch):
    """A host that does all that hosts on the net do."""
    monkeypatch.setattr(downloads, "_FIRST_PAUSE", 0.01)
    with BadServer() as running:
        yield running
