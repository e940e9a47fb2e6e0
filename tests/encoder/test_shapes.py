"""Batches filled up to shapes that come again: at most a tenth more work, and the same features and gradients."""

import itertools

import numpy as np
import pytest
import torch

from recbole_perpeft.encoder import item_features
from recbole_perpeft.encoder.shapes import LENGTH_STEP, length_edges, repeated_size
from tests.encoder.conftest import trained
from tests.encoder.test_item_features import CLOSE, MIXED, shapes, text_tower


def test_few_sizes_hold_all_batches_with_little_to_fill():
    sizes = [repeated_size(n) for n in range(1, 3000)]
    assert all(n <= size <= n * 17 / 16 for n, size in zip(range(1, 3000), sizes, strict=True))
    assert len(set(sizes)) < 32 + 16 * 7
    assert [repeated_size(size) for size in sizes] == sizes
    assert len({repeated_size(n) for n in range(580, 640)}) == 2


def work(lengths, edges):
    return np.array(edges)[np.searchsorted(edges, lengths)].sum()


@pytest.mark.parametrize("seed", range(5))
def test_as_few_lengths_as_three_per_cent_allow(seed):
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(2.5 + 0.2 * seed, 0.6, 300).astype(int), 1, 77)
    edges = length_edges(lengths)
    every = np.unique(-(-lengths // LENGTH_STEP)) * LENGTH_STEP
    assert set(edges) <= set(every)
    assert work(lengths, edges) <= 1.03 * work(lengths, every)
    fewer = itertools.combinations(every[:-1], len(edges) - 2) if len(edges) > 1 else []
    assert all(work(lengths, [*some, every[-1]]) > 1.03 * work(lengths, every) for some in fewer)


@pytest.mark.parametrize(("lengths", "edges"), [([], []), ([0, 3], [8]), ([8] * 5, [8]), ([77, 9], [16, 80])])
def test_lengths_at_their_ends(lengths, edges):
    assert length_edges(np.array(lengths, dtype=int)) == edges


@pytest.mark.parametrize("source", ["clip", "siglip", "pair"])
@pytest.mark.parametrize("peft_layers", [None, 1])
def test_filled_up_batches_give_the_features_and_gradients_of_plain_ones(build, monkeypatch, source, peft_layers):
    encoder = trained(build(source=source, peft_config={"lora_dropout": 0.0}, peft_layers=peft_layers))
    items = MIXED.repeat(9)[:-2]  # 79
    towards = torch.randn(len(items), encoder.feature_dim, generator=torch.Generator().manual_seed(3))
    parameters = [parameter for _, parameter in encoder.adapter_parameters(1)]

    def features_and_gradients():
        encoder.item_features._device = None  # it arrives anew
        features = encoder.encode(items, 1)
        return features, torch.autograd.grad((features * towards).sum(), parameters)

    plain, expected = features_and_gradients()
    monkeypatch.setattr(item_features, "_REPEATS_SHAPES", {"cpu"})
    seen = shapes(text_tower(encoder), "input_ids")
    filled, found = features_and_gradients()
    assert all(rows == repeated_size(rows) for rows, _ in seen[-2:])
    assert sum(rows for rows, _ in seen) > len(items)
    torch.testing.assert_close(filled, plain, **CLOSE)
    for own, other in zip(found, expected, strict=True):
        assert other.abs().max() > 1e-4
        torch.testing.assert_close(own, other, atol=1e-6, rtol=1e-4)


def test_batches_of_about_a_size_have_few_shapes(build, monkeypatch):
    monkeypatch.setattr(item_features, "_REPEATS_SHAPES", {"cpu"})
    encoder = build().eval()
    seen = shapes(encoder.foundation.model.vision_model, "pixel_values")
    for number in range(97, 113):
        assert encoder.encode(MIXED.repeat(13)[:number], 0).shape == (number, encoder.feature_dim)
    assert {rows for rows, *_ in seen} == {100, 104, 108, 112}
