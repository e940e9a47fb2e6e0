"""Side networks over cached hidden states, against transformers' own hidden states and the formulas by hand."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_perpeft.encoder import EncoderError
from recbole_perpeft.encoder.foundation.hidden_states import TowerStates
from recbole_perpeft.encoder.iisan.side_network import SideNetworks
from recbole_perpeft.model.gradient_cache import encode_in_portions
from tests.encoder.conftest import ITEMS, SOURCES, train, trained
from tests.training import resume, same

EVERY_SOURCE = pytest.mark.parametrize("source", SOURCES)


def towers(model):
    """The towers of a dual encoder or a pair, by modality."""
    if hasattr(model, "vision_model"):
        return {"image": model.vision_model, "text": model.text_model}
    return {"image": model.image, "text": model.text}


def hidden_by_transformers(foundation, content, modality):
    """All hidden states of ITEMS, from the embeddings to the last layer, ``[n, positions, d]`` each."""
    batch = content.batch(ITEMS)
    if modality == "image":
        arguments = {"pixel_values": batch["pixels"].float() * foundation.pixel_scale + foundation.pixel_shift}
    else:
        arguments = {"input_ids": batch["input_ids"], "attention_mask": batch.get("attention_mask")}
    with torch.no_grad():
        return towers(foundation.model)[modality](**arguments, output_hidden_states=True).hidden_states, batch


def pooled_by_hand(source, modality, states, batch):
    """What the tower's own feature reads of ``states [n, positions, d]``."""
    if source == "siglip":  # attention over all patches; the last token
        return states.mean(dim=1) if modality == "image" else states[:, -1]
    if modality == "image":
        return states[:, 0]
    if source == "clip":
        return states[torch.arange(len(states)), batch["attention_mask"].sum(dim=1) - 1]
    mask = batch["attention_mask"].unsqueeze(-1)
    return (states * mask).sum(dim=1) / mask.sum(dim=1)


@EVERY_SOURCE
@pytest.mark.parametrize("modality", ["image", "text"])
def test_states_are_those_of_transformers_where_the_feature_reads(build, source, modality):
    encoder = build(source=source, peft_type="IISAN")
    hidden, batch = hidden_by_transformers(encoder.foundation, encoder.content, modality)
    tower = TowerStates(encoder.foundation, modality)
    found = tower.pooled(batch, len(hidden))
    assert not found.requires_grad
    for place, states in enumerate(hidden[:-1]):  # the last of transformers' own may have gone through a norm
        expected = pooled_by_hand(source, modality, states, batch)
        torch.testing.assert_close(found[:, place], expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    torch.testing.assert_close(tower.pooled(batch, 2), found[:, [0, -1]])


@pytest.mark.parametrize("image", ["swin", "convnext"])
@pytest.mark.parametrize("form", ["normalised", "authors"])
def test_stages_of_other_sizes_enter_at_the_width_of_the_last(build, image, form):
    encoder = build("IISAN", {"image_encoder": image, "text_encoder": "bert"}, iisan_form=form)
    hidden, batch = hidden_by_transformers(encoder.foundation, encoder.content, "image")
    tower = TowerStates(encoder.foundation, "image")
    assert (tower.depth, encoder.number) == (2, 3)
    widths = tower.widths(3)
    assert widths[-1] == 16
    assert len(set(widths)) == 2
    found = tower.pooled(batch, 3)  # [n, 3, 16]
    for place, width in enumerate(widths):
        states = hidden[place]
        expected = states.mean(dim=(2, 3)) if states.ndim == 4 else states.mean(dim=1)
        torch.testing.assert_close(found[:, place, :width], expected, atol=1e-5, rtol=1e-4)
        assert not found[:, place, width:].any()
    features = encoder.encode(ITEMS, 1)
    assert features.shape == (len(ITEMS), 16 + 16 + 16)
    features.square().sum().backward()
    assert all(parameter.grad is not None for _, parameter in encoder.adapter_parameters(1))


def chain_by_hand(chain, states):
    running = None
    for k, block in enumerate(chain.blocks):
        gate = torch.sigmoid(chain.gates[k - 1]) if k else None
        entering = states[:, k] if running is None else gate * running + (1 - gate) * states[:, k]
        running = entering + block.up(F.gelu(block.down(entering)))
    return running


@pytest.mark.parametrize("widths", [(12, 12), (12, 8), (6, 10)])
def test_features_are_those_of_the_formula_for_any_widths(widths):
    torch.manual_seed(0)
    networks = SideNetworks(
        {m: [width] * 3 for m, width in zip(("image", "text"), widths, strict=True)}, 4, "normalised"
    )
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    states = {m: 50 * torch.randn(5, 3, width) for m, width in zip(("image", "text"), widths, strict=True)}
    normed = {
        m: (v - v.mean(-1, True)) / (v.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() for m, v in states.items()
    }
    parts = [chain_by_hand(networks.inside[modality], normed[modality]) for modality in ("image", "text")]
    inner = {m: v @ networks.enter[m].weight.T if v.shape[-1] > min(widths) else v for m, v in normed.items()}
    mix = torch.sigmoid(networks.mix)[:, None]
    parts.append(chain_by_hand(networks.between, mix * inner["image"] + (1 - mix) * inner["text"]))
    expected = torch.cat([part / part.norm(dim=-1, keepdim=True) for part in parts], dim=-1)
    torch.testing.assert_close(networks(states), expected)
    assert networks.feature_dim == expected.shape[1] == sum(widths) + min(widths)


def in_numpy(networks, states):
    """What PerPEFT's authors compute, ``[n, feature_dim]``; reads the weights of SideNetworks of that form."""
    weight = {name: value.double().numpy() for name, value in networks.state_dict().items()}
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731

    def linear(name, x):
        return x @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]

    def block(name, x):
        inner = linear(f"{name}.down", x)
        gelu = inner * np.array([[(1 + math.erf(v / math.sqrt(2))) / 2 for v in row] for row in inner])
        return x + linear(f"{name}.up", gelu)

    inside = dict.fromkeys(states)
    between = 0
    for k in range(states["image"].shape[1]):
        for m, values in states.items():
            gate = sigmoid(weight[f"inside.{m}.gates"][k - 1]) if k else 0
            entering = gate * inside[m] + (1 - gate) * values[:, k] if k else values[:, k]
            inside[m] = block(f"inside.{m}.blocks.{k}", entering)
        wide, narrow = sorted(states, key=lambda m: states[m].shape[-1], reverse=True)
        mix = sigmoid(weight["mix"][k])
        mix = {"image": mix, "text": 1 - mix}
        entering = mix[wide] * linear(f"enter.{wide}.{k}", states[wide][:, k]) + mix[narrow] * states[narrow][:, k]
        between = block(f"between.blocks.{k}", between + entering)
    return np.concatenate([*inside.values(), between], axis=1)


@pytest.mark.parametrize("widths", [(12, 8), (6, 10)])
def test_the_authors_form_is_their_formula(widths):
    torch.manual_seed(0)
    sizes = dict(zip(("image", "text"), widths, strict=True))
    networks = SideNetworks({m: [width] * 3 for m, width in sizes.items()}, 4, "authors")
    blocks = torch.cat([p.flatten() for name, p in networks.named_parameters() if ".blocks." in name])
    assert blocks.std().item() == pytest.approx(1e-4, rel=0.1)
    assert not blocks.eq(0).any()
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    states = {m: 50 * torch.randn(5, 3, width) for m, width in sizes.items()}
    expected = in_numpy(networks, {m: values.double().numpy() for m, values in states.items()})
    np.testing.assert_allclose(networks(states).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_parameters_of_a_group_on_clip_vit_b_32():
    widths = {"image": [768] * 7, "text": [512] * 7}

    def number(form):
        return sum(parameter.numel() for parameter in SideNetworks(widths, 32, form).parameters())

    assert number("normalised") == 1_209_273
    assert number("authors") == 3_572_149 - 2  # the authors' code holds two gates more, which it never reads


def test_new_networks_give_a_mean_of_the_states():
    networks = SideNetworks({"text": [6, 6, 6]}, 2, "normalised")
    states = torch.randn(4, 3, 6)
    normed = F.layer_norm(states, (6,))
    mean = 0.25 * normed[:, 0] + 0.25 * normed[:, 1] + 0.5 * normed[:, 2]
    torch.testing.assert_close(networks({"text": states}), F.normalize(mean, dim=-1))


@EVERY_SOURCE
def test_a_shallow_tower_has_fewer_states_and_every_group_its_own_networks(build, source):
    encoder = build(source=source, peft_type="iisan", peft_config={"bottleneck": 4})
    depth = min(len(tower.encoder.layers if hasattr(tower.encoder, "layers") else tower.encoder.layer)
                if hasattr(tower, "encoder") else 2 for tower in towers(encoder.foundation.model).values())  # fmt: skip
    assert encoder.number == min(7, depth + 1)
    before = [encoder.encode(ITEMS, group).detach() for group in range(4)]
    assert all(torch.equal(before[0], other) for other in before[1:])
    trained(encoder, group=1)
    after = [encoder.encode(ITEMS, group) for group in range(4)]
    assert not torch.allclose(before[1], after[1], atol=1e-3)
    assert all(torch.equal(before[group], after[group]) for group in (0, 2, 3))
    assert after[0].shape == (len(ITEMS), encoder.feature_dim)
    encoder.copy_adapter(1)
    assert all(torch.equal(after[1], encoder.encode(ITEMS, group)) for group in range(4))


def test_inactive_groups_get_no_gradient(build):
    encoder = build(peft_type="IISAN")
    encoder.encode(ITEMS, 2).sum().backward()
    for group in range(4):
        reached = [p.grad is not None for _, p in encoder.adapter_parameters(group)]
        assert all(reached) if group == 2 else not any(reached)
    assert not any(p.requires_grad and p.grad is not None for p in encoder.frozen_parameters())


@pytest.mark.parametrize("modality", ["image", "text"])
def test_one_modality_has_one_network(build, modality):
    encoder = build(peft_type="IISAN", modalities=(modality,))
    assert encoder.networks[0].between is None
    assert encoder.encode(ITEMS, 0).shape == (len(ITEMS), 16)


def test_training_never_runs_the_foundation_model_and_a_warm_run_prepares_nothing(build, tmp_path):
    cold = build(peft_type="IISAN", cache=tmp_path)
    features = cold.encode(ITEMS, 0)
    assert cold.item_features.items_prepared >= 2 * len(ITEMS)
    assert cold.content.pictures_decoded == len(ITEMS)
    warm = build(peft_type="IISAN", cache=tmp_path)
    warm.networks.load_state_dict(cold.networks.state_dict())
    calls = []
    for tower in towers(warm.foundation.model).values():
        tower.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(warm.encode(ITEMS, 0), features)
    train(warm, torch.optim.AdamW([p for _, p in warm.adapter_parameters(0)]), 0, steps=2, seed=0)
    assert (calls, warm.item_features.items_prepared, warm.items_encoded, warm.content.pictures_decoded) == (
        [],
        0,
        0,
        0,
    )


def test_states_are_made_within_a_step_that_encodes_in_portions(build, tmp_path):
    encoder = build(peft_type="IISAN", cache=tmp_path)
    features = encode_in_portions(lambda items: encoder.encode(items, 0), ITEMS, 2, torch.zeros(1))
    features.sum().backward()
    torch.testing.assert_close(features, encoder.encode(ITEMS, 0))


def test_states_are_kept_in_the_precision_of_the_encoder(build, tmp_path):
    exact = build(peft_type="IISAN", cache=tmp_path).encode(ITEMS, 0)
    rounded = build(peft_type="IISAN", cache=tmp_path, dtype=torch.bfloat16).encode(ITEMS, 0)
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, atol=0.05, rtol=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"botleneck": 8}, "IISAN has no field 'botleneck'. Did you mean 'bottleneck'?"),
        ({"bottleneck": 0}, "bottleneck: 0 is no whole number from 1 up"),
        ({"states": 1}, "states: 1 is no whole number from 2 up"),
        ({"states": True}, "states: True is no whole number"),
        ("r: 4", "'r: 4' is no mapping"),
    ],
)
def test_fields_that_cannot_be_used_are_named(build, settings, message):
    with pytest.raises(EncoderError, match=message):
        build(peft_type="IISAN", peft_config=settings)


def test_a_run_of_three_stages_resumes_to_the_same_end(prepare, recorded):
    settings = {"peft_type": "IISAN", "peft_config": {"bottleneck": 4}, "iisan_form": "authors"}
    whole, result, _ = run = recorded(**settings)
    trainer, again = resume(prepare, run.checkpoint(2), **settings)
    assert again == result
    assert same(trainer.model.state_dict(), whole.model.state_dict())
    assert trainer.model.item_tower.encoder.items_encoded == 0
    assert {name.split(".networks.")[1][0] for name in whole.model.state_dict() if ".networks." in name} == set("012")
