"""Dropout by whole words: torch's distribution, from a generator of its own."""

import pytest
import torch
from torch import nn

from recbole_perpeft.encoder.peft.dropout import WordDropout
from tests.encoder.conftest import ITEMS


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_elements_are_dropped_as_often_as_said_and_apart_from_each_other(p):
    torch.manual_seed(3)
    size = 400_000
    kept = WordDropout(p)(torch.ones(size)) > 0
    spread = (p * (1 - p) / size) ** 0.5
    assert abs(kept.float().mean() - (1 - p)) < 5 * spread
    for distance in (1, 2, 3, 4):  # neighbours have a random word in common
        both = (kept[distance:] & kept[:-distance]).float().mean()
        assert abs(both - (1 - p) ** 2) < 10 * spread
    by_place = kept.view(-1, 4).float().mean(0)  # its four parts
    assert (by_place - (1 - p)).abs().max() < 10 * spread


def test_what_is_kept_grows_so_that_the_mean_stays():
    torch.manual_seed(3)
    values = torch.randn(50, 33, requires_grad=True)
    out = WordDropout(0.25)(values)
    kept = out != 0
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(out[kept], values[kept] / 0.75)
    out.sum().backward()
    torch.testing.assert_close(values.grad, kept / 0.75)


@pytest.mark.parametrize("shape", [(7,), (1, 3), (2, 5, 3), (0, 4)])
def test_any_shape_and_type(shape):
    for dtype in (torch.float32, torch.bfloat16):
        out = WordDropout(0.5)(torch.ones(shape, dtype=dtype))
        assert out.shape == shape
        assert out.dtype == dtype


@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0])
def test_at_its_ends_it_is_torchs_own(p):
    values = torch.ones(100)
    assert torch.equal(WordDropout(p)(values), nn.Dropout(round(p))(values))


def test_nothing_is_dropped_in_evaluation():
    values = torch.randn(5, 4)
    assert WordDropout(0.5).eval()(values) is values


def test_masks_follow_torchs_generator_and_differ_between_layers_and_calls(build):
    encoder = build(peft_config={"lora_dropout": 0.5}).train()
    dropouts = [module for module in encoder.modules() if isinstance(module, WordDropout)]
    assert dropouts
    assert not [module for module in encoder.modules() if type(module) is nn.Dropout and module.p and module.training]
    masks = []
    for dropout in dropouts:
        dropout.register_forward_hook(lambda module, args, out: masks.append((out != 0).flatten()[:64]))

    def of_seed(seed):
        masks.clear()
        torch.manual_seed(seed)
        with torch.enable_grad():
            encoder.encode(ITEMS, 0)
            encoder.encode(ITEMS, 0)
        return torch.stack(masks)

    first, again, other = of_seed(1), of_seed(1), of_seed(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) == len(first) > 4
