"""Running the foundation model over items: texts by length, chunks, a full GPU, and what is computed once only."""

import pytest
import torch

from recbole_perpeft.encoder import FrozenItemEncoder, item_features
from tests.encoder.conftest import ITEMS, TITLES, trained

MIXED = torch.tensor([5, 3, 8, 1, 3, 2, 7, 6, 4])  # unsorted, one of them twice
CLOSE = {"atol": 1e-6, "rtol": 1e-5}


def shapes(tower, name):
    """List that fills with the shapes that ``tower`` is called with."""
    seen = []
    tower.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs[name].shape)), with_kwargs=True
    )
    return seen


def text_tower(encoder):
    model = encoder.foundation.model
    return model.text if hasattr(model, "text") else model.text_model


@pytest.mark.parametrize(("source", "widths"), [("clip", {8, 16}), ("pair", {8, 16})])
@pytest.mark.parametrize("gradient", [True, False])
def test_texts_of_different_lengths_give_the_features_of_one_padded_batch_in_order(build, source, widths, gradient):
    encoder = trained(build(source=source, peft_config={"lora_dropout": 0.0}))
    with torch.set_grad_enabled(gradient):
        with encoder.activate(1):
            expected = encoder.foundation(encoder.content.batch(MIXED))
        seen = shapes(text_tower(encoder), "input_ids")
        features = encoder.encode(MIXED, 1)
    assert features.requires_grad == gradient
    torch.testing.assert_close(features, expected, **CLOSE)
    assert not torch.allclose(features[0], features[1], atol=1e-2)  # another order would show
    assert {width for _, width in seen} == widths
    assert sum(rows for rows, _ in seen) == len(MIXED)


def test_texts_of_a_fixed_length_run_together(build):
    encoder = build(source="siglip").eval()
    seen = shapes(text_tower(encoder), "input_ids")
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(MIXED, 1), encoder.foundation(encoder.content.batch(MIXED)), **CLOSE)
    assert seen == [(9, 12), (9, 12)]


@pytest.mark.parametrize("chunk", [2, 128])
def test_gradients_of_buckets_and_chunks_are_those_of_one_padded_batch(build, monkeypatch, chunk):
    monkeypatch.setitem(item_features._CHUNK, "small model", chunk)
    encoder = trained(build(peft_config={"lora_dropout": 0.0}))
    towards = torch.randn(len(MIXED), encoder.feature_dim, generator=torch.Generator().manual_seed(3))
    parameters = [parameter for _, parameter in encoder.adapter_parameters(1)]
    with encoder.activate(1):
        expected = torch.autograd.grad((encoder.foundation(encoder.content.batch(MIXED)) * towards).sum(), parameters)
    found = torch.autograd.grad((encoder.encode(MIXED, 1) * towards).sum(), parameters)
    for own, other in zip(found, expected, strict=True):
        assert other.abs().max() > 1e-4
        torch.testing.assert_close(own, other, atol=1e-6, rtol=1e-4)


def test_chunks_give_the_same_features_and_are_counted(build, monkeypatch):
    monkeypatch.setitem(item_features._CHUNK, "small model", 3)
    encoder = build().eval()
    seen = shapes(encoder.foundation.model.vision_model, "pixel_values")
    with_gradient = encoder.encode(ITEMS, 1)
    assert with_gradient.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(ITEMS, 1), with_gradient, **CLOSE)
        assert encoder.encode(ITEMS[:0], 1).shape == (0, encoder.feature_dim)
    assert [rows for rows, *_ in seen] == [3, 3, 2, 3, 3, 2]
    with torch.no_grad(), encoder.activate(1):
        torch.testing.assert_close(encoder.foundation(encoder.content.batch(ITEMS)), with_gradient, **CLOSE)
    assert encoder.items_encoded == 2 * len(ITEMS)


def limited(encoder, most):
    """Let the image tower run out of memory above ``most`` pictures; gives the list of what it was asked."""

    def refuse(module, args, kwargs):
        if len(kwargs["pixel_values"]) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    seen = shapes(encoder.foundation.model.vision_model, "pixel_values")
    encoder.foundation.model.vision_model.register_forward_pre_hook(refuse, with_kwargs=True)
    return seen


def test_a_full_gpu_halves_the_chunk_until_it_fits_and_remembers(build, monkeypatch):
    monkeypatch.setitem(item_features._CHUNK, "small model", 8)
    monkeypatch.setattr(item_features, "_SMALLEST_CHUNK", 2)
    encoder = trained(build()).eval()
    with torch.no_grad():
        expected = encoder.encode(MIXED, 1)
        seen = limited(encoder, most=3)
        torch.testing.assert_close(encoder.encode(MIXED, 1), expected, **CLOSE)
        assert [rows for rows, *_ in seen] == [8, 4, 2, 2, 2, 2, 1]
        seen.clear()
        encoder.encode(MIXED, 1)
        assert [rows for rows, *_ in seen] == [2, 2, 2, 2, 1]


def test_a_gpu_that_is_full_at_the_smallest_chunk_or_with_a_gradient_says_so(build, monkeypatch):
    monkeypatch.setitem(item_features._CHUNK, "small model", 8)
    monkeypatch.setattr(item_features, "_SMALLEST_CHUNK", 2)
    encoder = build().eval()
    seen = limited(encoder, most=1)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        encoder.encode(ITEMS, 1)  # fewer at a time would not lower what backward needs
    assert [rows for rows, *_ in seen] == [8]
    with torch.no_grad(), pytest.raises(torch.cuda.OutOfMemoryError):
        encoder.encode(ITEMS, 1)
    assert [rows for rows, *_ in seen] == [8, 8, 4, 2]


def test_frozen_features_are_computed_once_ever(build, tmp_path):
    encoder = build("none", cache=tmp_path)
    assert isinstance(encoder, FrozenItemEncoder)
    features = encoder.encode(ITEMS, 0)
    assert torch.equal(encoder.encode(ITEMS.flip(0), 3), features.flip(0))
    assert encoder.item_features.items_prepared == len(TITLES) + 2  # the padding item too, and once more for the shape
    assert encoder.items_encoded == 0
    torch.testing.assert_close(features, encoder.foundation(encoder.content.batch(ITEMS)), **CLOSE)
    again = build("none", cache=tmp_path)
    assert torch.equal(again.encode(ITEMS, 1), features)
    assert again.item_features.items_prepared == 0
    other = build("none", source="siglip", cache=tmp_path)
    assert other.encode(ITEMS, 0).shape != features.shape
    assert other.item_features.items_prepared == len(TITLES) + 2


def test_a_frozen_encoder_has_nothing_to_train_copy_or_save(build):
    encoder = build("none")
    encoder.encode(ITEMS, 0)
    assert encoder.adapter_parameters(2) == []
    assert encoder.frozen_state_keys() == set(encoder.state_dict())
    assert {id(p) for p in encoder.frozen_parameters()} == {id(p) for p in encoder.parameters()}
    encoder.copy_adapter(0)
