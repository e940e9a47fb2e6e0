"""Adapters that would never train get none, or are refused; merged they act as beside the weights."""

import logging

import pytest
import torch

from recbole_perpeft.encoder import EncoderError
from recbole_perpeft.encoder.peft import adapters, targets
from tests.encoder.conftest import ITEMS, trained

HEAD = "vision_model.head.attention.out_proj"  # of SigLIP: torch reads its weight without running it


@pytest.mark.parametrize("wanted", ["all-linear", ["out_proj"], r".*(out_proj|fc1)"])
@pytest.mark.parametrize("peft_type", ["LORA", "VERA"])
def test_a_layer_that_would_never_train_gets_no_adapter(build, wanted, peft_type, caplog):
    with caplog.at_level(logging.WARNING):
        encoder = build(peft_type, source="siglip", peft_config={"target_modules": wanted}, num_groups=2)
    assert f"would never train, for no feature depends on their outputs: {HEAD}" in caplog.text
    names = [name for name, _ in encoder.adapter_parameters(0)]
    assert any("out_proj" in name for name in names)
    assert not any(HEAD in name for name in names)
    encoder.encode(ITEMS, 0).sum().backward()
    assert all(parameter.grad is not None for _, parameter in encoder.adapter_parameters(0))


@pytest.mark.parametrize("peft_layers", [None, 1])
def test_evaluation_applies_what_training_did(build, peft_layers):
    config = {"target_modules": "all-linear", "init_lora_weights": False}
    encoder = build(source="siglip", peft_config=config, num_groups=2, peft_layers=peft_layers)
    trained(encoder.train(), group=1)
    encoder.eval()
    with torch.no_grad():
        merged = encoder.encode(ITEMS, 1)
    torch.testing.assert_close(encoder.encode(ITEMS, 1).detach(), merged, atol=1e-4, rtol=1e-3)


def test_an_encoder_none_of_whose_layers_would_train_is_refused(build):
    wanted = r"vision_model\.head\.attention\.out_proj|text_model.*out_proj"
    with pytest.raises(EncoderError, match=f"calls no layer of the image encoder, but for such .*{HEAD}"):
        build(source="siglip", peft_config={"target_modules": wanted})


def test_layers_of_one_encoder_below_the_cut_are_not_left_out_silently(build):
    wanted = r"vision_model.*layers\.1.*q_proj|text_model.*layers\.0.*q_proj"
    with pytest.raises(EncoderError, match="calls no layer of the text encoder above the cut of peft_layers"):
        build(peft_config={"target_modules": wanted}, peft_layers=1)


def test_what_slips_through_is_refused_by_its_gradient_or_its_merged_features(build, monkeypatch):
    config = {"target_modules": "all-linear"}
    monkeypatch.setattr(targets, "idle_layers", lambda *_: set())
    with pytest.raises(EncoderError, match=f"2 of a module's .* parameters would never train.*{HEAD}"):
        build(source="siglip", peft_config=config)
    monkeypatch.setattr(adapters, "check_trains", lambda *_: None)
    with pytest.raises(EncoderError, match="acts otherwise in evaluation, merged into the weights"):
        build(source="siglip", peft_config=config)
