"""One PEFT module per group: which parameters move, which stay, and what they start from."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from recbole_perpeft.encoder import EncoderError, PeftItemEncoder
from tests.encoder.conftest import ITEMS, SOURCES, all_parameters, train
from tests.tiny_models import INNER, LAYERS, WIDTH

LORA_CLIP = 2 * LAYERS * 2 * 4 * (WIDTH + WIDTH)  # towers, layers, targets, r * (in + out)
IA3_TOWER = LAYERS * (WIDTH + WIDTH + WIDTH)  # outputs of key and value, input of the feed-forward layer


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def in_group(name, group):
    return f"group_{group}" in name.split(".")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("peft_type", ["LORA", "ia3"])
def test_fresh_modules_change_nothing(peft_type, source, build):
    expected = build("NONE", source).encode(ITEMS, 0)
    encoder = build(peft_type, source).eval()
    assert isinstance(encoder, PeftItemEncoder)
    for group in (0, 3):
        torch.testing.assert_close(encoder.encode(ITEMS, group), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("peft_layers", [None, 1])
@pytest.mark.parametrize("peft_type", ["LORA", "IA3", "OFT", "LN_TUNING"])
def test_without_modules_the_foundation_model_is_the_frozen_one_whatever_they_learnt(peft_type, peft_layers, build):
    expected = build("NONE").encode(ITEMS, 0)
    encoder = build(peft_type, peft_layers=peft_layers).train()
    with torch.no_grad():
        for parameter in all_parameters(encoder):
            parameter.add_(0.3 * torch.randn_like(parameter))
    torch.testing.assert_close(encoder.frozen_features()[ITEMS], expected, atol=1e-5, rtol=1e-4)
    assert encoder.training
    assert all(parameter.requires_grad for parameter in all_parameters(encoder))
    encoder.eval()
    assert not torch.allclose(encoder.encode(ITEMS, 1), expected, atol=1e-2)


@pytest.mark.parametrize("source", ["clip", "pair"])
@pytest.mark.parametrize("peft_type", ["LORA", "IA3"])
def test_only_the_module_of_the_batchs_group_moves(peft_type, source, build):
    encoder = build(peft_type, source).train()
    fingerprint = encoder.foundation.fingerprint()
    optimizer = torch.optim.AdamW(all_parameters(encoder), lr=1e-2, weight_decay=0.1)
    for group in range(4):  # every group now has momentum
        train(encoder, optimizer, group, steps=2, seed=group)
    before = snapshot(encoder)
    train(encoder, optimizer, group=3, steps=4, seed=9)
    after = encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if in_group(name, 3)}
    assert all(p.grad is None for group in range(3) for _, p in encoder.adapter_parameters(group))
    assert encoder.foundation.fingerprint() == fingerprint
    encoder.eval()
    assert not torch.allclose(encoder.encode(ITEMS, 3), encoder.encode(ITEMS, 2), atol=1e-3)


def test_modules_start_equal_and_follow_the_seed(build):
    torch.manual_seed(5)
    first = snapshot(build())
    torch.manual_seed(5)
    second = snapshot(build())
    torch.manual_seed(6)
    third = snapshot(build())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)
    own = [name for name in first if in_group(name, 0)]
    assert own
    for name in own:
        for group in range(1, 4):
            assert torch.equal(first[name], first[name.replace("group_0", f"group_{group}")])


@pytest.mark.parametrize("peft_type", ["LORA", "IA3"])
def test_copy_adapter_copies_into_all_groups_in_place(peft_type, build):
    encoder = build(peft_type, num_groups=11)  # group_1 is the beginning of group_10
    train(encoder, torch.optim.AdamW(all_parameters(encoder), lr=1e-2), group=1, steps=2, seed=0)
    parameters = all_parameters(encoder)
    source = {name: p.clone() for name, p in encoder.adapter_parameters(1)}
    encoder.copy_adapter(1)
    for group in range(11):
        for name, p in encoder.adapter_parameters(group):
            assert torch.equal(p, source[name.replace(f"group_{group}", "group_1")])
    assert all(p is q for p, q in zip(parameters, all_parameters(encoder), strict=True))
    encoder.eval()
    assert torch.equal(encoder.encode(ITEMS, 1), encoder.encode(ITEMS, 10))


def test_copy_adapter_copies_buffers_too(build):
    config = {"target_modules": ["q_proj"], "r": 2, "projection_prng_key": 1}
    encoder = build("VERA", peft_config=config, num_groups=2)
    buffers = dict(encoder.named_buffers(remove_duplicate=False))
    own = [name for name in buffers if in_group(name, 0)]
    assert own
    for name in own:
        buffers[name].add_(1)
    encoder.copy_adapter(0)
    assert all(torch.equal(buffers[name], buffers[name.replace("group_0", "group_1")]) for name in own)


def test_activate_nests_and_survives_errors(build):
    encoder = build().eval()
    train(encoder, torch.optim.AdamW(all_parameters(encoder), lr=1e-2), group=2, steps=2, seed=0)
    adapted, plain = encoder.encode(ITEMS, 2), encoder.encode(ITEMS, 1)
    assert not torch.allclose(adapted, plain, atol=1e-3)

    def active():
        return encoder.foundation(encoder.content.batch(ITEMS))

    with encoder.activate(2):
        torch.testing.assert_close(active(), adapted, atol=1e-6, rtol=1e-5)
        assert torch.equal(encoder.encode(ITEMS, 1), plain)
        with pytest.raises(RuntimeError, match="inside"), encoder.activate(1):
            raise RuntimeError("inside")
        torch.testing.assert_close(active(), adapted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(active(), plain, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_merged_group_refuses_another_one_inside_and_goes_on(build):
    encoder = build().eval()
    with torch.enable_grad():
        train(encoder, torch.optim.AdamW(all_parameters(encoder), lr=1e-2), group=2, steps=2, seed=0)
    adapted, plain = encoder.encode(ITEMS, 2), encoder.encode(ITEMS, 1)
    with encoder.activate(2):
        with pytest.raises(EncoderError, match="group 1 cannot be encoded while group 2 is merged"):
            encoder.encode(ITEMS, 1)
        assert torch.equal(encoder.encode(ITEMS, 2), adapted)
    assert torch.equal(encoder.encode(ITEMS, 1), plain)


def test_switching_keeps_all_modules_in_sight_of_an_optimizer(build):
    encoder = build()
    parameters = all_parameters(encoder)
    assert {id(p) for p in parameters} == {id(p) for p in encoder.parameters() if p.requires_grad}
    for p in parameters:
        p.requires_grad_(False)
    with encoder.activate(2):
        assert not any(p.requires_grad for p in parameters)  # nor does it wake what somebody froze
    assert {id(p) for p in encoder.frozen_parameters()} == {id(p) for p in encoder.parameters()} - {
        id(p) for p in parameters
    }


def test_adapter_dropout_follows_the_mode(build):
    encoder = build(peft_config={"lora_dropout": 0.5})
    train(encoder, torch.optim.AdamW(all_parameters(encoder), lr=1e-1), group=0, steps=2, seed=0)
    encoder.train()
    assert not torch.equal(encoder.encode(ITEMS, 0), encoder.encode(ITEMS, 0))
    encoder.eval()
    assert torch.equal(encoder.encode(ITEMS, 0), encoder.encode(ITEMS, 0))


@pytest.mark.parametrize("peft_type", ["LORA", "IA3"])
def test_checkpoints_need_only_what_is_not_frozen(peft_type, build):
    encoder = build(peft_type)
    train(encoder, torch.optim.AdamW(all_parameters(encoder), lr=1e-2), group=1, steps=2, seed=0)
    frozen = encoder.frozen_state_keys()
    trained = {key: value for key, value in encoder.state_dict().items() if key not in frozen}
    assert sum(value.numel() for value in trained.values()) == sum(p.numel() for p in all_parameters(encoder))
    fresh = build(peft_type)
    assert set(fresh.state_dict()) == set(encoder.state_dict())
    missing = fresh.load_state_dict(trained, strict=False)
    assert set(missing.missing_keys) == frozen
    assert not missing.unexpected_keys
    assert torch.equal(fresh.eval().encode(ITEMS, 1), encoder.eval().encode(ITEMS, 1))


@pytest.mark.parametrize(
    ("peft_type", "source", "peft_config", "expected"),
    [
        ("LORA", "clip", None, LORA_CLIP),
        ("LORA", "siglip", None, LORA_CLIP),
        ("LORA", "pair", None, LORA_CLIP),
        ("LORA", "clip", {"r": 8}, 2 * LORA_CLIP),
        ("LORA", "clip", {"target_modules": ["fc1"]}, 2 * LAYERS * 4 * (WIDTH + INNER)),
        ("LORA", "clip", {"target_modules": r".*\.q_proj"}, LORA_CLIP // 2),
        ("LORA", "clip", {"layers_to_transform": [LAYERS - 1]}, LORA_CLIP // 2),
        ("IA3", "clip", None, 2 * IA3_TOWER),
        ("IA3", "siglip", None, 2 * IA3_TOWER + WIDTH),  # the pooling head of the image tower has a fc1, too
        ("IA3", "pair", None, 2 * IA3_TOWER),
        ("IA3", "clip", {"target_modules": ["v_proj"]}, 2 * LAYERS * WIDTH),
        ("IA3", "clip", {"target_modules": r".*\.(v_proj|fc1)"}, 2 * LAYERS * (WIDTH + WIDTH)),
        ("LOHA", "clip", {"target_modules": ["q_proj"], "r": 2}, 2 * LAYERS * 2 * 2 * (WIDTH + WIDTH)),
    ],
)
def test_number_of_parameters_per_group(peft_type, source, peft_config, expected, build):
    encoder = build(peft_type, source, num_groups=3, peft_config=peft_config)
    for group in range(3):
        assert sum(p.numel() for _, p in encoder.adapter_parameters(group)) == expected
    total = sum(p.numel() for p in encoder.parameters())
    assert total == encoder.foundation.num_parameters + 3 * expected  # base weights are not copied


def test_defaults_are_the_papers(build):
    lora = build("lora", "pair").peft_model.peft_config["group_0"]
    assert (lora.r, lora.lora_alpha, lora.lora_dropout) == (4, 8, 0.1)
    assert lora.target_modules == {"q_proj", "v_proj", "query", "value"}
    ia3 = build("IA3", "pair").peft_model.peft_config["group_0"]
    assert ia3.target_modules == {"k_proj", "v_proj", "fc1", "key", "value", "intermediate.dense"}
    assert ia3.feedforward_modules == {"fc1", "intermediate.dense"}
    assert build("IA3").peft_model.peft_config["group_0"].target_modules == {"k_proj", "v_proj", "fc1"}


def test_one_modality_adapts_one_tower(build):
    encoder = build("LORA", modalities=["text"])
    names = [name for name, _ in encoder.adapter_parameters(0)]
    assert names
    assert all("text_model" in name for name in names)


def test_saved_modules_open_with_peft(build, models, tmp_path):
    encoder = build("LORA")
    train(encoder, torch.optim.AdamW(all_parameters(encoder), lr=1e-2), group=1, steps=3, seed=0)
    encoder.eval()
    encoder.peft_model.save_pretrained(tmp_path, selected_adapters=["group_1"])
    loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(models / "clip"), tmp_path / "group_1").eval()
    tokens = encoder.foundation.tokenizer(["golf"], return_tensors="pt")
    with torch.no_grad(), encoder.activate(1):
        expected = encoder.foundation.model.get_text_features(**tokens).pooler_output
        torch.testing.assert_close(loaded.get_text_features(**tokens).pooler_output, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peft_type": "LORRA"}, ["peft_type", "'LORRA'", "LORA"]),
        ({"peft_type": "NOEN"}, ["peft_type", "NONE"]),
        ({"peft_type": "PROMPT_TUNING"}, ["peft_type", "PROMPT_TUNING"]),
        ({"peft_type": "ADALORA"}, ["peft_type", "ADALORA"]),
        ({"peft_config": {"rnak": 4}}, ["peft_config", "'rnak'", "Known: "]),
        ({"peft_config": {"lora_alhpa": 4}}, ["peft_config", "'lora_alhpa'", "lora_alpha"]),
        ({"peft_config": {"peft_type": "IA3"}}, ["peft_config", "'peft_type'"]),
        ({"peft_config": [4]}, ["peft_config", "[4]", "mapping"]),
        ({"peft_config": {"r": 0}}, ["peft_config", "LORA"]),
        ({"peft_config": {"r": "four"}}, ["peft_config", "LORA"]),
        ({"peft_config": {"target_modules": ["q_prj"]}}, ["target_modules", "'q_prj'", "q_proj", "fc1"]),
        ({"peft_config": {"target_modules": ["q_proj", "vproj"]}}, ["target_modules", "'vproj'", "v_proj"]),
        ({"peft_config": {"target_modules": "q_(proj"}}, ["target_modules", "'q_(proj'", "regular expression"]),
        ({"peft_config": {"target_modules": 3}}, ["target_modules", "3", "q_proj"]),
        ({"peft_config": {"target_modules": []}}, ["target_modules", "[]", "q_proj"]),
        ({"peft_config": {"bias": "all"}}, ["peft_config", "bias"]),
        (
            {"peft_config": {"target_modules": ["q_proj"]}, "source": "pair"},
            ["target_modules", "text encoder", "query"],
        ),
        ({"peft_config": {"target_modules": r"text\..*query"}, "source": "pair"}, ["image encoder", "q_proj"]),
        ({"peft_type": "IA3", "peft_config": {"feedforward_modules": ["fc2"]}}, ["peft_config", "IA3"]),
        ({"num_groups": 0}, ["num_groups", "0"]),
    ],
)
def test_settings_that_cannot_be_used_are_named(options, words, build):
    with pytest.raises(EncoderError) as caught:
        build(**options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("peft_type", ["LORA", "NONE"])
def test_groups_that_do_not_exist_are_refused(peft_type, build):
    encoder = build(peft_type)
    for group in (-1, 4):
        with pytest.raises(EncoderError, match="num_groups is 4"):
            encoder.encode(ITEMS, group)
