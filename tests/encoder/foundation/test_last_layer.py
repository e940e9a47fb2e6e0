"""Where a feature reads one position, the last layer runs there only, and nothing else changes."""

import copy

import pytest
import torch
from torch import nn

from recbole_perpeft.encoder import load_foundation
from recbole_perpeft.encoder.foundation.last_layer import position_in, trim_towers
from tests.encoder.conftest import ITEMS, SOURCES, train, trained
from tests.encoder.foundation.test_layer_cut import stacks
from tests.matrix import quickly

READ = {  # what each tower reads of its last layer: one position, or several
    "clip": {"image": "first", "text": "end"},
    "siglip": {"text": "last"},  # its pictures are pooled by attention
    "pair": {"image": "first"},  # the mean over a text reads all of it
}
PEFTS = {
    "LORA": {"lora_dropout": 0.0},
    "IA3": None,
    "DORA": {"lora_dropout": 0.0},
    "LN_TUNING": None,
    "OFT": None,
    "VERA": None,
}


def widths(layer):
    """List that fills with how many positions the widest product of ``layer`` (its feed-forward net) sees."""
    seen = []
    linear = max((m for m in layer.modules() if type(m) is nn.Linear), key=lambda m: m.out_features)
    linear.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    return seen


def positions(foundation):
    return {modality: last.position for modality, last in foundation.last_layers.items()}


@pytest.mark.parametrize("source", SOURCES)
def test_towers_that_read_one_position_are_found(build, source):
    assert positions(build("LORA", source).foundation) == READ[source]


@pytest.mark.parametrize("pooling", [("mean", "cls"), ("cls", "cls"), ("mean", "mean")])
def test_the_pooling_decides(models, pooling):
    image, text = pooling
    foundation = load_foundation(
        image_encoder=str(models / "vit"), text_encoder=str(models / "bert"), image_pooling=image, text_pooling=text
    )
    trim_towers(foundation)
    expected = {"image": image, "text": text}
    assert positions(foundation) == {modality: "first" for modality, name in expected.items() if name == "cls"}


CELLS = [(method, layers, source) for method in PEFTS for layers in (1, None) for source in SOURCES]
QUICK = [cell for cell in CELLS if cell[0] == "LORA" or cell[1:] == (1, "clip")]


@pytest.mark.parametrize(("peft_type", "layers", "source"), quickly(CELLS, QUICK))
def test_features_and_gradients_are_those_of_the_whole_layer(build, peft_type, layers, source):
    encoder = trained(build(peft_type, source, peft_config=PEFTS[peft_type], peft_layers=layers))
    parameters = [parameter for _, parameter in encoder.adapter_parameters(1)]
    towards = torch.randn(len(ITEMS), encoder.feature_dim, generator=torch.Generator().manual_seed(3))

    def run():
        features = encoder.encode(ITEMS, 1)
        gradients = torch.autograd.grad((features * towards).sum(), parameters, allow_unused=True)
        with torch.no_grad():
            merged = encoder.eval().encode(ITEMS, 1)
        encoder.train()
        return features.detach(), merged, gradients

    *features, gradients = run()
    assert encoder.foundation.last_layers
    encoder.foundation.last_layers.clear()
    *of_whole, gradients_of_whole = run()
    for own, other in zip(features, of_whole, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)
    for own, other in zip(gradients, gradients_of_whole, strict=True):
        if own is None or other is None:
            assert own is other
        else:
            torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)


def test_the_feed_forward_net_of_the_last_layer_sees_one_position(build):
    encoder = build("LORA", "clip")
    image, text = stacks(encoder)
    below, last, of_text = widths(image[0]), widths(image[-1]), widths(text[-1])
    encoder.encode(ITEMS, 0)
    assert set(last) == set(of_text) == {1}
    assert min(below) > 1
    last.clear()
    encoder.foundation.last_layers.clear()
    encoder.encode(ITEMS, 0)
    assert set(last) == set(below)


def test_a_copy_trains_like_the_original(build):
    encoder = build("LN_TUNING", "clip")
    copied = copy.deepcopy(encoder)
    for one in (encoder, copied):
        train(one, torch.optim.SGD([p for _, p in one.adapter_parameters(0)], lr=0.05), group=0, steps=2, seed=1)
    assert torch.equal(encoder.encode(ITEMS, 0), copied.encode(ITEMS, 0))


def test_the_first_end_token_is_read(build):
    encoder = build("LORA", "clip", modalities=("text",))
    foundation = encoder.foundation
    batch = foundation.probe("text")
    end = foundation.tokenizer.eos_token_id
    batch["input_ids"][1, 1] = end  # as if a title held it
    assert position_in("end", batch, end).tolist()[1] == 1
    with torch.no_grad():
        trimmed = foundation.encode("text", batch)
        foundation.last_layers.clear()
        torch.testing.assert_close(trimmed, foundation.encode("text", batch))


def test_a_layer_that_needs_all_positions_stays_whole(models, monkeypatch):
    foundation = load_foundation(encoder=str(models / "clip"))
    vision = foundation.model.vision_model.encoder.layers[-1]
    forward = vision.mlp.forward
    # what all positions have in common enters here: the gradient at the norm is no longer at one position alone
    monkeypatch.setattr(vision.mlp, "forward", lambda states: forward(states + states.mean(dim=1, keepdim=True)))
    trim_towers(foundation)
    assert list(foundation.last_layers) == ["text"]
