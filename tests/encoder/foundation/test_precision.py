"""In which numbers the foundation model computes, and what merging a module into its weights may change: nothing."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from recbole_perpeft.encoder import EncoderError, compute_dtype
from tests.encoder.conftest import ITEMS, SOURCES, trained
from tests.matrix import quickly, slow

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
LORAS = {
    "plain": ("LORA", {}),
    "dora": ("LORA", {"use_dora": True}),
    "rslora": ("LORA", {"use_rslora": True}),
    "ia3": ("IA3", None),
}


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"arm_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, torch.float32),
        ({}, torch.float32),
        (None, torch.float32),  # a torch that cannot tell
    ],
)
def test_auto_on_a_cpu_is_bf16_where_it_multiplies_it(monkeypatch, capabilities, expected):
    if capabilities is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert compute_dtype("auto", CPU) == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_on_a_gpu_is_bf16_where_it_multiplies_it_itself(monkeypatch, supported, expected):
    # asked with emulation, older GPUs say yes, too
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or supported
    )
    assert compute_dtype("auto", CUDA) == expected


def test_named_precisions_are_taken_or_refused():
    for device in (CPU, CUDA):
        assert compute_dtype("fp32", device) == torch.float32
        assert compute_dtype("bf16", device) == torch.bfloat16
    assert compute_dtype("fp16", CUDA) == torch.float16
    with pytest.raises(EncoderError, match="precision: fp16 needs a GPU. Set auto, bf16 or fp32"):
        compute_dtype("fp16", CPU)
    with pytest.raises(EncoderError, match="precision: 'half' is not known. Set auto, fp32, bf16, fp16"):
        compute_dtype("half", CPU)


def twins(build, *arguments, **options):
    """Equal trained encoders in fp32 and bf16."""
    first = trained(build(*arguments, **options))
    second = build(*arguments, dtype=torch.bfloat16, **options)
    frozen = first.frozen_state_keys()
    assert frozen == second.frozen_state_keys()
    second.load_state_dict({k: v for k, v in first.state_dict().items() if k not in frozen}, strict=False)
    return first.eval(), second.eval()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("gradient", [True, False])
def test_features_in_bf16_are_close_to_those_in_fp32(build, source, gradient):
    exact, rough = twins(build, "LORA", source)
    with torch.set_grad_enabled(gradient):
        expected, features = exact.encode(ITEMS, 1), rough.encode(ITEMS, 1)
    assert features.dtype == torch.float32
    assert not torch.equal(features, expected)
    width = expected.shape[1] // 2
    for part in (slice(width), slice(width, None)):
        assert cosine_similarity(features[:, part], expected[:, part]).min() > 0.999
        torch.testing.assert_close(features[:, part].norm(dim=1), torch.ones(len(ITEMS)), atol=1e-5, rtol=0)
    assert cosine_similarity(features, exact.encode(ITEMS, 0)).max() < 0.99  # the module counts for more than that


def test_frozen_features_in_bf16_are_close_to_those_in_fp32(build):
    expected, features = build("NONE").encode(ITEMS, 0), build("NONE", dtype=torch.bfloat16).encode(ITEMS, 0)
    assert features.dtype == torch.float32
    assert not torch.equal(features, expected)
    assert cosine_similarity(features, expected).min() > 0.999


def test_gradients_in_bf16_point_where_those_in_fp32_do(build):
    exact, rough = twins(build, peft_config={"lora_dropout": 0.0})
    towards = torch.randn(len(ITEMS), exact.feature_dim, generator=torch.Generator().manual_seed(3))
    flat = []
    for encoder in (exact, rough):
        parameters = [parameter for _, parameter in encoder.adapter_parameters(1)]
        gradients = torch.autograd.grad((encoder.encode(ITEMS, 1) * towards).sum(), parameters)
        assert all(g.dtype == torch.float32 for g in gradients)
        flat.append(torch.cat([gradient.flatten() for gradient in gradients]))
    assert cosine_similarity(*flat, dim=0) > 0.99


def test_only_frozen_weights_without_adapters_are_held_in_bf16(build):
    encoder = build(dtype=torch.bfloat16)
    for name, parameter in encoder.named_parameters():
        frozen_product = "_proj" in name or "fc" in name or "patch_embedding" in name or "projection" in name
        adapted = "base_layer" in name or "lora_" in name
        assert (parameter.dtype == torch.bfloat16) == (frozen_product and not adapted), name


MERGED = [(method, source) for method in LORAS for source in SOURCES]


@pytest.mark.parametrize(
    ("method", "source"), quickly(MERGED, [cell for cell in MERGED if cell[0] == "plain" or cell[1] == "clip"])
)
def test_merged_features_are_the_unmerged_ones(build, method, source):
    peft_type, settings = LORAS[method]
    encoder = trained(build(peft_type, source, peft_config=settings)).eval()
    for group in (0, 1):
        unmerged = encoder.encode(ITEMS, group)  # gradients are enabled
        with torch.no_grad():
            merged = encoder.encode(ITEMS, group)
        torch.testing.assert_close(merged, unmerged, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(encoder.encode(ITEMS, 0), unmerged, atol=1e-2)


def frozen_bytes(encoder):
    return {
        key: (value.dtype, value.view(torch.uint8).clone() if value.ndim else value.clone())
        for key, value in encoder.state_dict().items()
        if key in encoder.frozen_state_keys()
    }


@pytest.mark.parametrize(
    ("method", "dtype"),
    [slow("plain", torch.float32), ("dora", torch.float32), slow("rslora", torch.float32), ("ia3", torch.float32),
     ("plain", torch.bfloat16)],
)  # fmt: skip
def test_merging_leaves_no_trace_in_the_weights(build, method, dtype):
    peft_type, settings = LORAS[method]
    encoder = trained(build(peft_type, peft_config=settings, dtype=dtype)).eval()
    before, unmerged = frozen_bytes(encoder), encoder.encode(ITEMS, 1)
    storages = {name: p.data_ptr() for name, p in encoder.named_parameters()}

    def check():
        after = frozen_bytes(encoder)
        assert before.keys() == after.keys()
        for key, (kind, weights) in before.items():
            assert after[key][0] == kind
            assert torch.equal(after[key][1], weights), key
        assert storages == {name: p.data_ptr() for name, p in encoder.named_parameters()}
        assert torch.equal(encoder.encode(ITEMS, 1), unmerged)

    with torch.no_grad(), encoder.activate(1):
        merged = frozen_bytes(encoder)
    assert any(kind != before[key][0] or not torch.equal(w, before[key][1]) for key, (kind, w) in merged.items())
    check()
    with torch.no_grad(), pytest.raises(RuntimeError, match="inside"), encoder.activate(1):
        raise RuntimeError("inside")
    check()


def test_a_merge_that_fails_half_way_leaves_no_trace(build):
    encoder = trained(build()).eval()
    before, unmerged = frozen_bytes(encoder), encoder.encode(ITEMS, 1)
    last = [module for name, module in encoder.named_modules() if name.endswith("lora_A.group_1")][-1]
    weight, last.weight = last.weight, nn.Parameter(torch.zeros(3, 3))
    with torch.no_grad(), pytest.raises(RuntimeError):
        encoder.encode(ITEMS, 1)
    last.weight = weight
    assert all(torch.equal(w, before[key][1]) for key, (_, w) in frozen_bytes(encoder).items())
    assert torch.equal(encoder.encode(ITEMS, 1), unmerged)


def test_a_change_below_the_step_of_bf16_shows_after_merging(build):
    """A weight near 1 has a step of 1/128 in bf16; changes of 1/1000 must still move their share of the weights."""
    encoder = build(dtype=torch.bfloat16).eval()
    layer = encoder.foundation.model.text_model.encoder.layers[0].self_attn.q_proj
    exact = layer.base_layer.weight.detach().clone()
    with torch.no_grad():
        layer.lora_A["group_1"].weight.fill_(0.05)
        layer.lora_B["group_1"].weight.fill_(0.0025)  # 4 products, doubled: 0.001 everywhere
        change = 2 * layer.lora_B["group_1"].weight @ layer.lora_A["group_1"].weight
        torch.testing.assert_close(change, torch.full_like(change, 0.001))
        with encoder.activate(1):
            merged = layer.base_layer.weight.detach().clone()
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, (exact + change).bfloat16())
    large = exact.abs() > 0.25  # steps of 1/1024 and more: added to rounded weights, most changes would be lost
    assert large.sum() > 50
    moved = (merged.float() - exact.bfloat16().float())[large]
    assert 0.0007 < moved.mean() < 0.0013
    assert (moved == 0).any()


def test_merging_leaves_dropout_and_modes_alone(build):
    encoder = trained(build(peft_config={"lora_dropout": 0.5}), learning_rate=0.1)
    encoder.eval()
    modes = {name: module.training for name, module in encoder.named_modules()}
    with torch.no_grad():
        first = encoder.encode(ITEMS, 1)
        assert torch.equal(encoder.encode(ITEMS, 1), first)
    assert {name: module.training for name, module in encoder.named_modules()} == modes
    encoder.train()
    dropouts = [m for name, m in encoder.named_modules() if isinstance(m, nn.Dropout) and "lora_dropout" in name]
    assert dropouts
    with torch.no_grad():  # a merged module could not drop anything
        assert not torch.equal(encoder.encode(ITEMS, 1), encoder.encode(ITEMS, 1))
    assert all(dropout.training and dropout.p == 0.5 for dropout in dropouts)
