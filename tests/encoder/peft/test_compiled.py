"""The foundation model compiled: features and gradients of the plain one, one compiled function for all groups."""

import pytest
import torch
from torch._dynamo.utils import counters

from recbole_perpeft.encoder.peft import adapters
from recbole_perpeft.model.gradient_cache import encode_in_portions
from recbole_perpeft.model.tower_factory import is_compiled
from recbole_perpeft.utils.errors import EncoderError
from tests.encoder.conftest import ITEMS, all_parameters, train, trained
from tests.training import portions_of

WITHOUT_DROPOUT = {"lora_dropout": 0.0}


@pytest.fixture(autouse=True)
def nothing_compiled():
    """No test is served by what another compiled."""
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def features_and_gradients(encoder, group, items=ITEMS):
    parameters = [parameter for _, parameter in encoder.adapter_parameters(group)]
    towards = torch.randn(len(items), encoder.feature_dim, generator=torch.Generator().manual_seed(3))
    features = encoder.encode(items, group)
    return [features.detach(), *torch.autograd.grad((features * towards).sum(), parameters)]


@pytest.mark.slow
@pytest.mark.parametrize(("peft_type", "peft_layers"), [("LORA", None), ("LORA", 1), ("IA3", 1)])
def test_one_compiled_function_gives_what_the_plain_model_does_for_all_groups(build, peft_type, peft_layers):
    config = WITHOUT_DROPOUT if peft_type == "LORA" else None
    plain, compiled = (
        build(peft_type, peft_config=config, peft_layers=peft_layers, compile_encoder=on).train()
        for on in (False, True)
    )
    for group in range(1, 4):
        trained(plain, group, steps=group)
    compiled.load_state_dict(plain.state_dict())
    seen = []
    for group, items in ((2, ITEMS), (0, ITEMS[:5]), (1, ITEMS), (3, ITEMS[:3]), (2, ITEMS[:1])):
        found, expected = (features_and_gradients(encoder, group, items) for encoder in (compiled, plain))
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)
        assert max(gradient.abs().max() for gradient in found[1:]) > 1e-4
        seen.append(expected[0][0])
        assert counters["stats"]["unique_graphs"] == 2  # a tower each
    assert not any(torch.allclose(seen[0], other, atol=1e-3) for other in seen[1:4])
    start = features_and_gradients(plain, 3)[0]
    for encoder in (plain, compiled):
        train(encoder, torch.optim.SGD(all_parameters(encoder), lr=0.01), group=3, steps=5, seed=7)
    own, other = (features_and_gradients(encoder, 3)[0] for encoder in (compiled, plain))
    torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(start, other, atol=1e-2)
    assert all(p.grad is None for group in range(3) for _, p in compiled.adapter_parameters(group))


@pytest.mark.slow
def test_dropout_follows_the_seed_also_where_a_graph_is_not_kept(build):
    encoder = trained(build("LORA", peft_config={"lora_dropout": 0.5}, peft_layers=1)).train()
    compiled = build("LORA", peft_config={"lora_dropout": 0.5}, peft_layers=1, compile_encoder=True).train()
    compiled.load_state_dict(encoder.state_dict())
    parameters = [parameter for _, parameter in compiled.adapter_parameters(1)]

    def gradients(seed, encode):
        torch.manual_seed(seed)
        features = encode(lambda items: compiled.encode(items, 1))
        return [features.detach(), *torch.autograd.grad(features.square().cumsum(1).sum(), parameters)]

    def in_portions(encode):
        return encode_in_portions(encode, ITEMS, 4, torch.zeros(1))

    def kept(encode):
        return torch.cat([encode(items) for items in portions_of(ITEMS, 4)])

    first = gradients(1, in_portions)  # compiles, which draws nothing
    for own, other in zip(first, gradients(1, kept), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(*pair) for pair in zip(first, gradients(1, in_portions), strict=True))
    assert not torch.allclose(first[0], gradients(2, in_portions)[0], atol=1e-3)


def test_what_cannot_be_compiled_runs_as_it_is_and_the_log_says_so_once(build, caplog):
    plain, compiled = (build("LORA", peft_config=WITHOUT_DROPOUT, compile_encoder=on).train() for on in (False, True))
    compiled.load_state_dict(trained(plain).state_dict())
    images = compiled.foundation.tower_modules("image").values()
    norm = next(module for module in images if isinstance(module, torch.nn.LayerNorm))
    norm.register_forward_hook(lambda *_: torch._dynamo.graph_break())
    for group in (1, 2):
        found, expected = (features_and_gradients(encoder, group) for encoder in (compiled, plain))
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    (message,) = [record.message for record in caplog.records if "compile_encoder" in record.message]
    assert "runs as it is" in message


def test_methods_of_which_it_is_not_known_are_refused(build):
    with pytest.raises(EncoderError, match="compile_encoder: True is for LORA and IA3, and peft_type is LOHA"):
        build("LOHA", compile_encoder=True)


@pytest.mark.slow
def test_by_default_it_is_compiled_once_so_many_items_have_run_as_they_are(build, monkeypatch, caplog):
    monkeypatch.setattr(adapters, "PAYS_AFTER", 3 * len(ITEMS))  # a tower sees each of the items
    caplog.set_level("INFO")
    plain, waits = (build("LORA", peft_config=WITHOUT_DROPOUT, compile_encoder=on).train() for on in (False, None))
    waits.load_state_dict(trained(plain).state_dict())
    expected = features_and_gradients(plain, 1)
    first = features_and_gradients(waits, 1)
    assert all(torch.equal(*pair) for pair in zip(first, expected, strict=True))
    assert not counters["stats"]["unique_graphs"]
    assert "compile_encoder" not in caplog.text
    for own, other in zip(features_and_gradients(waits, 1), expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)
    assert counters["stats"]["unique_graphs"]
    assert "compile_encoder: torch.compile compiles" in caplog.text


def test_methods_of_which_it_is_not_known_run_as_they_are_by_default(build):
    assert build("LOHA", compile_encoder=None).item_features.compiled is None


def test_the_default_leaves_a_cpu_alone():
    assert [is_compiled(asked, torch.device("cpu")) for asked in (None, True, False)] == [False, True, False]
    assert is_compiled(None, torch.device("cuda")) is None
