"""Batches of items."""

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch


def test_batch(prepare, tokenizer):
    content = prepare()
    batch = content.batch(torch.tensor([3, 1, 3]))

    assert {name: tensor.dtype for name, tensor in batch.items()} == {
        "pixels": torch.uint8,
        "input_ids": torch.int64,
        "attention_mask": torch.int64,
    }
    assert batch["pixels"].shape == (3, 3, 16, 16)
    for row, item in enumerate([3, 1, 3]):
        np.testing.assert_array_equal(batch["pixels"][row], content.pixels[item])
    assert batch["input_ids"].shape == (3, len("Red shoe"))
    assert batch["attention_mask"].tolist() == [[1] * 4 + [0] * 4, [1] * 8, [1] * 4 + [0] * 4]
    assert tokenizer.decode(batch["input_ids"][0][:4]) == "Blue"


def test_fixed_text_length(prepare):
    batch = prepare(fixed_text_length=True).batch(torch.tensor([3]))
    assert set(batch) == {"pixels", "input_ids"}
    assert batch["input_ids"].shape == (1, 32)


@pytest.mark.parametrize(("modality", "names"), [("image", {"pixels"}), ("text", {"input_ids", "attention_mask"})])
def test_one_modality(modality: str, names: set, prepare):
    content = prepare(modalities=(modality,))
    assert content.modalities == (modality,)
    assert set(content.batch(torch.tensor([1, 2]))) == names


def test_no_items(prepare):
    batch = prepare().batch(torch.tensor([], dtype=torch.long))
    assert batch["pixels"].shape == (0, 3, 16, 16)
    assert batch["input_ids"].shape == (0, 1)


def test_a_batch_can_be_changed_without_harm(prepare):
    content = prepare()
    before = content.pixels[1].copy()
    content.batch(torch.tensor([1]))["pixels"].zero_()
    np.testing.assert_array_equal(content.pixels[1], before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda content: pickle.loads(pickle.dumps(content))])
def test_copies_open_the_same_maps(copied, prepare):
    content = prepare()
    other = copied(content)
    assert isinstance(other.pixels, np.memmap)
    assert (other.key, other.n_items, other.modalities) == (content.key, 4, ("image", "text"))
    np.testing.assert_array_equal(other.pixels, content.pixels)
    np.testing.assert_array_equal(other.tokens, content.tokens)
    assert len(pickle.dumps(content)) < 2000


def resident(array):
    """Bytes of a memory map that this process holds, as the system counts them."""
    text, start = Path("/proc/self/smaps").read_text(), array.ctypes.data
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", text):
        first, last = (int(end, 16) for end in block.split(" ", 1)[0].split("-"))
        if first <= start < last:
            return 1024 * int(re.search(r"Rss: +(\d+) kB", block)[1])
    raise LookupError


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not say what is resident")
def test_content_at_rest_holds_no_memory_and_is_read_again(prepare):
    content = prepare()
    before = content.batch(torch.tensor([1, 2, 3]))
    assert resident(content.pixels) > 0
    content.rest()
    assert resident(content.pixels) == 0
    for name, values in content.batch(torch.tensor([1, 2, 3])).items():
        assert torch.equal(values, before[name])
