"""Every method of the peft library that can serve, with two groups; and why the others cannot."""

from functools import partial

import pytest
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING

from recbole_perpeft.encoder import EncoderError
from recbole_perpeft.encoder.peft.methods import usable_peft_types
from tests.encoder.conftest import ITEMS, all_parameters, train
from tests.matrix import quickly
from tests.training import gradients_of_portions

# what starts somewhere else than at the model as it is
STARTS_ELSEWHERE = {"C3A", "FOURIERFT", "UNILORA", "VBLORA"}
NAMED_IN_THE_PAPERS = {
    "LORA", "DORA", "RSLORA", "IA3", "VERA", "OFT", "BOFT", "HRA", "LOHA", "LOKR", "FOURIERFT", "LN_TUNING", "RANDLORA",
}  # fmt: skip
METHODS = pytest.mark.parametrize("method", usable_peft_types())
# low rank, a scale, a rotation, norms, drawn projections, and one that starts elsewhere
QUICK_METHODS = pytest.mark.parametrize(
    "method", quickly(list(usable_peft_types()), ["LORA", "DORA", "IA3", "OFT", "LN_TUNING", "VERA", "FOURIERFT"])
)


def features(encoder):
    encoder.eval()
    with torch.no_grad():
        return [encoder.encode(ITEMS, group) for group in range(2)]


@METHODS
def test_a_method_trains_the_module_of_one_group_and_leaves_the_others_alone(build, method):
    encoder = build(peft_type=method.lower(), num_groups=2)
    before = features(encoder)
    torch.testing.assert_close(before[0], before[1], atol=1e-6, rtol=0)
    optimizer = torch.optim.AdamW(all_parameters(encoder), lr=0.01, weight_decay=0.1)
    train(encoder.train(), optimizer, 0, steps=2, seed=0)
    assert all(parameter.grad is None for _, parameter in encoder.adapter_parameters(1))
    after = features(encoder)
    assert (after[0] - before[0]).abs().max() > 1e-4
    assert torch.equal(after[1], before[1])


@QUICK_METHODS
def test_modules_of_a_method_start_at_the_model_as_it_is_and_are_merged_saved_and_copied(build, method):
    encoder = build(peft_type=method, num_groups=2)
    before = features(encoder)
    if method not in STARTS_ELSEWHERE:
        frozen = build(peft_type="NONE", num_groups=2)
        torch.testing.assert_close(before[0], frozen.encode(ITEMS, 0), atol=1e-4, rtol=1e-3)
    optimizer = torch.optim.AdamW(all_parameters(encoder), lr=0.01, weight_decay=0.1)
    train(encoder.train(), optimizer, 0, steps=2, seed=0)
    after = features(encoder)
    train(encoder.train(), optimizer, 1, steps=2, seed=1)
    both = features(encoder)
    assert torch.equal(both[0], after[0])
    assert (both[1] - before[1]).abs().max() > 1e-4
    with torch.enable_grad():  # not merged
        torch.testing.assert_close(encoder.encode(ITEMS, 1), both[1], atol=1e-4, rtol=1e-3)
    again = build(peft_type=method, num_groups=2)
    again.load_state_dict(encoder.state_dict())
    assert all(torch.equal(*pair) for pair in zip(features(again), both, strict=True))
    encoder.copy_adapter(1)
    copied = features(encoder)
    torch.testing.assert_close(copied[0], both[1], atol=1e-6, rtol=0)


@QUICK_METHODS
def test_a_method_works_above_a_cut_in_bf16(build, method):
    encoder = build(peft_type=method, num_groups=2, source="pair", peft_layers=1, dtype=torch.bfloat16).train()
    before = features(encoder)
    optimizer = torch.optim.AdamW(all_parameters(encoder), lr=0.02)
    train(encoder.train(), optimizer, 1, steps=2, seed=0)
    after = features(encoder)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])
    assert all(parameter.dtype == torch.float32 for parameter in all_parameters(encoder))


@QUICK_METHODS
def test_a_method_has_the_gradient_of_its_portions_encoded_by_hand(build, method):
    encoder = build(peft_type=method, num_groups=2).train()
    parameters = [parameter for _, parameter in encoder.adapter_parameters(1)]
    encode, upstream = partial(encoder.encode, group=1), torch.randn(len(ITEMS), encoder.feature_dim)
    with encoder.activate(0):  # whatever is active when the backward pass comes
        gradients = gradients_of_portions(encode, ITEMS, 2, parameters, upstream)
    assert max(gradient.abs().max() for gradient in gradients[0] if gradient is not None) > 0
    for by_hand, found in zip(*gradients, strict=True):
        assert (by_hand is None) == (found is None)
        if found is not None:
            torch.testing.assert_close(found, by_hand)


def test_all_methods_of_the_library_are_usable_or_refused_with_a_reason(build):
    usable = set(usable_peft_types())
    assert usable >= NAMED_IN_THE_PAPERS
    refused = {peft_type.value for peft_type in PEFT_TYPE_TO_CONFIG_MAPPING} - usable
    assert "ADALORA" in refused
    for method in refused:
        with pytest.raises(EncoderError, match=rf"peft_type: {method} cannot be used: .+\. Choose another"):
            build(peft_type=method)


def test_a_name_that_is_none_is_answered_with_the_nearest(build):
    with pytest.raises(EncoderError, match="peft_type: 'lorra' is not known. Did you mean 'LORA'?"):
        build(peft_type="lorra")
    with pytest.raises(EncoderError, match="Did you mean 'IISAN'?"):
        build(peft_type="iisann")


@pytest.mark.parametrize("start", ["pissa", "olora", "eva", "corda", "loftq"])
def test_a_start_that_changes_shared_weights_is_refused(build, start):
    with pytest.raises(EncoderError, match=f"init_lora_weights '{start}' changes weights that all groups share"):
        build(peft_config={"init_lora_weights": start})


def test_the_names_of_lora_options_set_them(build):
    assert build(peft_type="DORA").peft_model.peft_config["group_1"].use_dora
    config = build(peft_type="RSLORA", peft_config={"r": 2}).peft_model.peft_config["group_0"]
    assert (config.use_rslora, config.r, config.lora_alpha) == (True, 2, 8)
