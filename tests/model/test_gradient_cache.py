"""Items encoded in portions, against each portion encoded by hand; items of which some are encoded, against all."""

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from recbole_perpeft.model import stale_features
from recbole_perpeft.model.gradient_cache import CarriedWindow, encode_in_portions


@pytest.fixture
def encoder():
    """``encode(items [n]) -> [n, 6]`` with dropout, its weights, and how many items it was given at each call."""
    torch.manual_seed(0)
    table = torch.randn(30, 8)
    layers = nn.Sequential(nn.Linear(8, 50), nn.Tanh(), nn.Dropout(0.5), nn.Linear(50, 6)).train()
    calls = []

    def encode(items):
        calls.append(len(items))
        return layers(table[items])

    return encode, list(layers.parameters()), calls


def test_the_gradient_is_that_of_each_portion_with_the_dropout_it_had(encoder):
    encode, weights, calls = encoder
    items, upstream = torch.arange(7, 30), torch.randn(23, 6)
    torch.manual_seed(3)
    expected = torch.cat([encode(part) for part in (items[:10], items[10:13], items[13:])])
    by_hand = torch.autograd.grad(expected, weights, upstream)
    calls.clear()
    torch.manual_seed(3)
    features = encode_in_portions(encode, items, 10, weights[0])
    assert torch.equal(features, expected)
    torch.manual_seed(99)  # what has been drawn in between
    drawn = torch.rand(1)
    torch.manual_seed(99)
    gradients = torch.autograd.grad(features, weights, upstream)
    assert torch.equal(torch.rand(1), drawn)  # the backward pass leaves the random state as it was
    assert sorted(calls) == [3, 3, 10, 10, 10]  # the last portion's graph was kept
    for found, one in zip(gradients, by_hand, strict=True):
        torch.testing.assert_close(found, one)


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_items(encoder):
    encode, _, _ = encoder

    def bytes_kept(items, size):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.nbytes) or one, lambda one: one):
            encode_in_portions(encode, items, size, torch.empty(0))
        return sum(kept)

    few = bytes_kept(torch.arange(10), 10)
    many = bytes_kept(torch.arange(30), None)
    portions = bytes_kept(torch.arange(30), 10)
    assert many > 2 * few  # the weights are kept in both
    assert portions < 1.1 * few  # those of a portion, and what the others are encoded from


def test_the_portion_that_was_kept_is_gone_when_another_is_encoded_again():
    weight, kept, gone = torch.nn.Parameter(torch.eye(4)), [], []

    def encode(items):
        gone.append(all(one.expired() for one in kept))
        hidden = (items[:, None].float() @ weight[:1]).exp()  # kept for its own backward pass
        kept.append(StorageWeakRef(hidden.untyped_storage()))
        return hidden @ weight

    encode_in_portions(encode, torch.arange(9), 3, weight).sum().backward()
    assert gone == [True, True, True, True, True]  # before the third no graph was kept, and none but its own after


@pytest.mark.parametrize("size", [None, 30, 31])
def test_what_fits_is_encoded_once(encoder, size):
    encode, weights, calls = encoder
    encode_in_portions(encode, torch.arange(30), size, weights[0]).sum().backward()
    assert calls == [30]


def test_features_that_move_by_an_affine_map_are_those_of_encoding_all_and_so_is_their_gradient(monkeypatch):
    monkeypatch.setattr(stale_features, "_RIDGE", 1e-9)  # nothing is held back
    content, last = torch.randn(60, 4), torch.zeros(60, 6)
    weights = [nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6))]
    with torch.no_grad():
        last[1:, :4] = content[1:]  # what was last computed, by other weights; two directions that say nothing

    def encode(items):
        return content[items] @ weights[0] + weights[1]

    items, encoded, upstream = torch.arange(3, 50), torch.arange(3, 50, 3), torch.randn(47, 6)
    expected = torch.autograd.grad((encode(items) * upstream).sum(), weights)
    window = CarriedWindow(items, encode(encoded), None, encoded, last)
    torch.testing.assert_close(window.features(items), encode(items), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(window.of_all_items[1:], encode(torch.arange(1, 60)), rtol=1e-3, atol=1e-4)
    half = torch.arange(20, 50)  # of two batches the second has these alone
    (window.features(items)[:17] * upstream[:17]).sum().backward()
    (window.rows(half, lambda features: 2 * features) * upstream[17:] / 2).sum().backward()
    window.backward(weights)
    for weight, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-3)
