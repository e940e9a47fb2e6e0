"""Features of foundation models equal what Hugging Face's own code gives."""

import copy
import json
import logging
import shutil

import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoModel, BertModel, ViTModel

from recbole_perpeft.encoder import load_foundation
from tests.encoder.conftest import TITLES

ITEMS = torch.arange(1, len(TITLES) + 1)


def pixel_values(foundation, catalogue):
    """Pictures through the processor in one go, with its own normalisation: [n, 3, H, W]."""
    images = [Image.open(catalogue / "images" / f"i{i}.png") for i in range(len(TITLES))]
    return foundation.image_processor(images, return_tensors="pt")["pixel_values"]


def tokens(foundation):
    return foundation.tokenizer(
        TITLES, padding="max_length", truncation=True, max_length=foundation.max_text_length, return_tensors="pt"
    )


def load(models, **settings):
    paths = {key: str(models / value) if key.endswith("encoder") else value for key, value in settings.items()}
    return load_foundation(**paths)


SOURCES = {
    "clip": {"encoder": "clip"},
    "siglip": {"encoder": "siglip"},
    "pair": {"image_encoder": "vit", "text_encoder": "bert"},
}


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_dual_encoder_gives_the_features_of_the_original_model(name, models, catalogue, content_for):
    foundation = load(models, encoder=name)
    original = AutoModel.from_pretrained(models / name).eval()
    encoded = tokens(foundation)
    if name == "siglip":  # trained on padded text without a mask
        del encoded["attention_mask"]
    with torch.no_grad():
        image = original.get_image_features(pixel_values=pixel_values(foundation, catalogue)).pooler_output
        text = original.get_text_features(**encoded).pooler_output
        features = foundation(content_for(foundation).batch(ITEMS))
    expected = torch.cat([F.normalize(image, dim=-1), F.normalize(text, dim=-1)], dim=-1)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert features.shape == (len(TITLES), foundation.feature_dim)
    assert foundation.fixed_text_length == (name == "siglip")


@pytest.mark.parametrize("image_pooling", ["cls", "mean"])
@pytest.mark.parametrize("text_pooling", ["cls", "mean", "pooler"])
def test_encoder_pair_gives_the_features_of_the_original_models(
    image_pooling, text_pooling, models, catalogue, content_for
):
    foundation = load(models, **SOURCES["pair"], image_pooling=image_pooling, text_pooling=text_pooling)
    vit = ViTModel.from_pretrained(models / "vit", add_pooling_layer=False).eval()
    bert = BertModel.from_pretrained(models / "bert").eval()
    encoded = tokens(foundation)
    with torch.no_grad():
        image = vit(pixel_values=pixel_values(foundation, catalogue)).last_hidden_state
        output = bert(**encoded)
        features = foundation(content_for(foundation).batch(ITEMS))
    image = image[:, 0] if image_pooling == "cls" else image.mean(1)
    kept = encoded["attention_mask"].unsqueeze(-1)
    text = {
        "cls": output.last_hidden_state[:, 0],
        "mean": (output.last_hidden_state * kept).sum(1) / kept.sum(1),
        "pooler": output.pooler_output,
    }[text_pooling]
    expected = torch.cat([F.normalize(image, dim=-1), F.normalize(text, dim=-1)], dim=-1)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


def test_pair_pools_class_token_and_mean_by_default(models):
    foundation = load(models, **SOURCES["pair"])
    assert (foundation.model.image_pooling, foundation.model.text_pooling) == ("cls", "mean")


@pytest.mark.parametrize("source", SOURCES)
def test_one_modality_gives_its_part_of_the_features(source, models, content_for):
    both = load(models, **SOURCES[source])
    with torch.no_grad():
        features = both(content_for(both).batch(ITEMS))
        for modality, part in zip(("image", "text"), features.split(both.feature_dim // 2, dim=1), strict=True):
            alone = load(models, **SOURCES[source], modalities=[modality])
            assert alone.modalities == (modality,)
            torch.testing.assert_close(alone(content_for(alone).batch(ITEMS)), part, atol=1e-6, rtol=1e-5)
            assert alone.num_parameters < both.num_parameters
            assert alone.tower_modules(modality)
            assert not any(
                m in name
                for name, _ in alone.model.named_modules()
                for m in {"vision" if modality == "text" else "text"}
            )
            assert (alone.image_processor is None) == (modality == "text")
            assert (alone.tokenizer is None) == (modality == "image")


@pytest.mark.parametrize("source", ["clip", "pair"])
def test_padding_does_not_change_features(source, models):
    foundation = load(models, **SOURCES[source], modalities=["text"])
    full = tokens(foundation)
    longest = int(full["attention_mask"].sum(1).max())
    cut = {key: value[:, :longest] for key, value in full.items()}
    with torch.no_grad():
        assert longest < foundation.max_text_length or source == "clip"
        torch.testing.assert_close(foundation(full), foundation(cut), atol=1e-6, rtol=1e-5)
        alone = {key: value[1:2, :6] for key, value in full.items()}  # "tent" and its two special tokens
        torch.testing.assert_close(foundation(full)[1:2], foundation(alone), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_frozen_model_stays_in_eval_mode_and_without_gradient(source, models, content_for):
    foundation = load(models, **SOURCES[source])
    batch = content_for(foundation).batch(ITEMS)
    expected = foundation.eval()(batch)
    assert torch.equal(foundation.train()(batch), expected)
    assert not expected.requires_grad
    assert not any(parameter.requires_grad for parameter in foundation.parameters())


def test_fingerprint_follows_the_weights(models, tmp_path):
    first = load(models, encoder="clip").fingerprint()
    assert first == load(models, encoder="clip").fingerprint()
    model = AutoModel.from_pretrained(models / "clip")
    with torch.no_grad():
        model.visual_projection.weight[0, 0] += 1e-3
    shutil.copytree(models / "clip", tmp_path / "other")
    model.save_pretrained(tmp_path / "other")
    assert load(tmp_path, encoder="other").fingerprint() != first


def test_half_precision_checkpoints_are_run_in_full_precision(models, tmp_path):
    shutil.copytree(models / "clip", tmp_path / "half")
    AutoModel.from_pretrained(models / "clip", dtype=torch.float16).save_pretrained(tmp_path / "half")
    foundation = load(tmp_path, encoder="half")
    assert {parameter.dtype for parameter in foundation.parameters()} == {torch.float32}


def test_folder_without_processor_gets_its_architectures_default(models, tmp_path, caplog, content_for):
    shutil.copytree(models / "vit", tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    with caplog.at_level(logging.WARNING):
        bare = load(tmp_path, image_encoder="vit", modalities=["image"])
    assert "no preprocessor_config.json" in caplog.text
    full = load(models, image_encoder="vit", modalities=["image"])
    assert torch.equal(bare(content_for(bare).batch(ITEMS)), full(content_for(full).batch(ITEMS)))


def test_unnormalised_processor_is_followed(models, tmp_path, catalogue, content_for):
    shutil.copytree(models / "vit", tmp_path / "vit")
    file = tmp_path / "vit" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_normalize": False, "rescale_factor": 1 / 128}))
    foundation = load(tmp_path, image_encoder="vit", modalities=["image"])
    vit = ViTModel.from_pretrained(tmp_path / "vit", add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = vit(pixel_values=pixel_values(foundation, catalogue)).last_hidden_state[:, 0]
        features = foundation(content_for(foundation).batch(ITEMS))
    torch.testing.assert_close(features, F.normalize(expected, dim=-1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("setting", "expected"), [(None, 16), (7, 7), (16, 16)])
def test_text_length_is_the_setting_or_the_models_limit(setting, expected, models):
    assert load(models, encoder="clip", max_text_length=setting).max_text_length == expected


def test_names_are_found_in_the_working_directory_then_in_search_folders(models, monkeypatch, tmp_path):
    monkeypatch.chdir(models)
    assert load_foundation(encoder="clip").name == "clip"
    monkeypatch.chdir(tmp_path)
    assert load_foundation(encoder="clip", search_folders=[models]).name == str(models / "clip")
    (tmp_path / "clip").mkdir()  # a folder of this name that holds no model is passed over
    assert load_foundation(encoder="clip", search_folders=[models]).name == str(models / "clip")


def test_copies_are_independent(models, content_for):
    foundation = load(models, encoder="clip")
    twin = copy.deepcopy(foundation).train()
    assert twin.fingerprint() == foundation.fingerprint()
    assert not any(module.training for module in twin.model.modules())
    batch = content_for(foundation).batch(ITEMS)
    assert torch.equal(twin(batch), foundation(batch))
