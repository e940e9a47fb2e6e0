"""Encoders whose features are not those of their items are cured or refused when they are loaded."""

import logging

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

from recbole_perpeft.encoder import EncoderError, load_foundation
from recbole_perpeft.encoder.foundation.feature_checks import check_features
from tests.encoder.conftest import ITEMS
from tests.tiny_models import save_tiny_aimv2, save_tiny_qwen3


@pytest.fixture(scope="module")
def aimv2(tmp_path_factory):
    return str(save_tiny_aimv2(tmp_path_factory.mktemp("models") / "aimv2"))


def test_a_text_has_the_same_feature_alone_and_in_a_batch(aimv2, content_for, caplog):
    with caplog.at_level(logging.WARNING):
        foundation = load_foundation(encoder=aimv2, modalities=["text"])
    assert "a text's feature changes with the padding" in caplog.text
    assert "plain (eager) attention instead" in caplog.text
    content = content_for(foundation)
    original = AutoModel.from_pretrained(aimv2, attn_implementation="eager").eval()
    with torch.no_grad():
        whole = foundation(content.batch(ITEMS))  # [n, d]
        alone = torch.cat([foundation(content.batch(item)) for item in ITEMS.split(1)])
        batch = [content.batch(item) for item in ITEMS.split(1)]
        expected = torch.cat([original.get_text_features(**one).pooler_output for one in batch])
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole, F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


def test_what_was_kept_under_another_attention_is_not_read_again(aimv2, build, tmp_path):
    cured = build(source={"encoder": aimv2}, peft_type="NONE", cache=tmp_path)
    right = cured.encode(ITEMS, 0)
    cured.foundation.only_plain = False  # as the build before knew it
    before = cured.item_features.items_prepared
    cured.item_features.frozen_features()
    assert cured.item_features.items_prepared > before
    assert torch.equal(build(source={"encoder": aimv2}, peft_type="NONE", cache=tmp_path).encode(ITEMS, 0), right)


@pytest.mark.parametrize(("modality", "what"), [("image", "a picture's"), ("text", "a text's")])
def test_a_feature_that_changes_with_the_batch_is_refused(models, modality, what):
    foundation = load_foundation(image_encoder=str(models / "vit"), text_encoder=str(models / "bert"))
    encoder = getattr(foundation.model, modality)

    def mixed(module, args, output):
        output.last_hidden_state = output.last_hidden_state + output.last_hidden_state.mean(dim=0)
        return output

    encoder.register_forward_hook(mixed)
    with pytest.raises(EncoderError, match=f"{modality}_encoder: with .* {what} feature changes with the .*"):
        check_features(foundation)


def test_a_pooling_that_sees_the_first_token_only_is_refused(tmp_path):
    name = str(save_tiny_qwen3(tmp_path / "qwen3"))
    with pytest.raises(
        EncoderError, match="text_pooling: cls cannot be used .* one and the same .* text_pooling: mean"
    ):
        load_foundation(text_encoder=name, text_pooling="cls", modalities=["text"])
    load_foundation(text_encoder=name, modalities=["text"])


def test_a_picture_of_which_only_the_first_part_is_seen_is_refused(models):
    foundation = load_foundation(image_encoder=str(models / "vit"), modalities=["image"])

    def upper_half(module, args, kwargs):
        return args, {"pixel_values": F.pad(kwargs["pixel_values"][..., :16, :], (0, 0, 0, 16))}

    foundation.model.image.register_forward_pre_hook(upper_half, with_kwargs=True)
    with pytest.raises(EncoderError, match="pictures that differ in a quarter have one and the same feature"):
        check_features(foundation)
