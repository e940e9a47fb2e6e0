"""What cannot be loaded is refused with the setting, the value and the cure."""

import json
import shutil

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2Model, T5Config, T5Model

from recbole_perpeft.encoder import EncoderError, load_foundation
from tests.tiny_models import save_tiny_clip


def refused(*words, **settings):
    with pytest.raises(EncoderError) as caught:
        load_foundation(**{key: str(value) if key.endswith("encoder") else value for key, value in settings.items()})
    message = str(caught.value)
    for word in words:
        assert str(word) in message, message
    return message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ["encoder", "image_encoder", "nothing"]),
        ({"image_encoder": "vit"}, ["modalities", "text_encoder", "image_encoder: "]),
        ({"text_encoder": "bert", "modalities": ["image"]}, ["modalities", "image_encoder"]),
        ({"encoder": "clip", "text_encoder": "bert"}, ["encoder and text_encoder"]),
        ({"encoder": "clip", "image_pooling": "cls"}, ["image_pooling", "cls"]),
        ({"encoder": "clip", "modalities": ["audio"]}, ["modalities", "audio", "[image, text]"]),
        ({"encoder": "clip", "modalities": []}, ["modalities"]),
        ({"image_encoder": "vit", "modalities": ["image"], "image_pooling": "max"}, ["image_pooling", "max", "mean"]),
        ({"encoder": "vit"}, ["encoder", "'vit'", "openai/clip-vit-base-patch32"]),
        ({"image_encoder": "bert", "modalities": ["image"]}, ["image_encoder", "'bert'", "ViT"]),
        ({"text_encoder": "vit", "modalities": ["text"]}, ["text_encoder", "'vit'", "BERT"]),
        ({"image_encoder": "clip", "modalities": ["image"]}, ["image_encoder", "dual encoder", "modalities: [image]"]),
        ({"encoder": "clip", "max_text_length": 17}, ["max_text_length", "17", "3 to 16"]),
        ({"encoder": "clip", "max_text_length": 2}, ["max_text_length", "2", "3 to 16"]),
        ({"encoder": "clip", "max_text_length": "long"}, ["max_text_length", "'long'"]),
        ({"encoder": "siglip", "max_text_length": 5}, ["max_text_length", "5", "12"]),
    ],
)
def test_contradicting_settings(settings, words, models):
    paths = {key: models / value if key.endswith("encoder") else value for key, value in settings.items()}
    refused(*words, **paths)


def test_pooler_that_the_checkpoint_has_not(models):
    settings = {"image_encoder": models / "vit", "modalities": ["image"], "image_pooling": "pooler"}
    refused("image_encoder", "pooler", "random", **settings)


def test_folder_without_config(tmp_path):
    refused("encoder", tmp_path, "config.json", encoder=tmp_path)


def test_folder_that_is_not_there(tmp_path):
    refused("encoder", "no folder", "looked in", "Set encoder to where", "openai/clip", encoder=tmp_path / "nowhere")
    refused("encoder", encoder="")


def test_hub_name_without_a_connection(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    name = "openai/clip-not-in-any-cache"
    refused("encoder", name, "HF_HUB_OFFLINE", f"hf download {name} --local-dir", encoder=name)


def test_models_of_other_kinds(tmp_path):
    GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20)).save_pretrained(tmp_path / "gpt2")
    refused("encoder", "'gpt2'", "image_encoder and text_encoder", encoder=tmp_path / "gpt2")
    t5 = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=20)
    T5Model(t5).save_pretrained(tmp_path / "t5")
    refused("text_encoder", "encoder-decoder", text_encoder=tmp_path / "t5", modalities=["text"])
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "odd"}')
    refused("encoder", "odd", encoder=tmp_path / "odd")


def test_broken_files(tmp_path):
    save_tiny_clip(tmp_path / "clip")
    weights = tmp_path / "clip" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    refused("encoder", tmp_path / "clip", "complete", encoder=tmp_path / "clip")
    weights.unlink()
    refused("encoder", tmp_path / "clip", "complete", encoder=tmp_path / "clip")
    (tmp_path / "clip" / "config.json").write_text("{")
    refused("encoder", tmp_path / "clip", encoder=tmp_path / "clip")


def test_weights_that_do_not_fill_the_model(tmp_path):
    save_tiny_clip(tmp_path / "clip")
    file = tmp_path / "clip" / "model.safetensors"
    weights = load_file(file)
    save_file({k: v for k, v in weights.items() if "text_model.encoder.layers.1" not in k}, file, {"format": "pt"})
    refused("encoder", "no weights for", "layers.1", encoder=tmp_path / "clip")
    assert load_foundation(encoder=str(tmp_path / "clip"), modalities=["image"])  # the text tower is not used
    save_file(weights | {"visual_projection.weight": torch.zeros(3, 3)}, file, {"format": "pt"})
    refused("encoder", tmp_path / "clip", encoder=tmp_path / "clip")


def test_tokenizers(models, tmp_path):
    shutil.copytree(models / "bert", tmp_path / "bert")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bert")
    tokenizer.add_tokens(["extra"])
    tokenizer.save_pretrained(tmp_path / "bert")
    refused("text_encoder", "41 tokens", "40", text_encoder=tmp_path / "bert", modalities=["text"])
    for file in (tmp_path / "bert").glob("tokenizer*"):
        file.unlink()
    refused("text_encoder", "tokenizer", text_encoder=tmp_path / "bert", modalities=["text"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do_center_crop": False}, ["different sizes"]),
        ({"image_mean": [0.5, 0.5]}, ["image processor"]),
        ({"crop_size": {"height": 48, "width": 48}, "size": {"shortest_edge": 48}}, ["cannot encode", "image"]),
    ],
)
def test_image_processors(change, words, tmp_path):
    folder = save_tiny_clip(tmp_path / "clip")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    refused("encoder", *words, encoder=folder)


def test_broken_image_processor_file(tmp_path):
    folder = save_tiny_clip(tmp_path / "clip")
    (folder / "preprocessor_config.json").write_text("{")
    refused("encoder", "preprocessor_config.json", encoder=folder)
