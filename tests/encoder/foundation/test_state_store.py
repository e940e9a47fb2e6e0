"""States on disk: interrupted runs go on, nothing is computed twice, and what is read is what was computed."""

import numpy as np
import pytest
import torch

from recbole_perpeft.content.store import ArrayWriter
from recbole_perpeft.encoder.foundation import state_store
from recbole_perpeft.encoder.foundation.state_store import StateStore, ensure_states

CPU = torch.device("cpu")
LENGTHS = np.array([1, 3, 2, 5, 1, 1, 4, 2])
WIDTH = 3
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


class Source:
    """States of items, drawn once; computes a batch as an encoder does, padded with nonsense.

    ``asked`` lists the items of every batch; ``dies_at``: the batch with this item is interrupted.
    """

    def __init__(self, dtype=torch.float32, dies_at=None):
        generator = torch.Generator().manual_seed(1)
        self.states = [torch.randn(length, WIDTH, generator=generator).to(dtype) for length in LENGTHS]
        self.asked, self.dies_at = [], dies_at

    def __call__(self, items):
        self.asked.append(items.tolist())
        if self.dies_at in items.tolist():
            raise KeyboardInterrupt
        padded = torch.full((len(items), int(LENGTHS[items.numpy()].max()), WIDTH), 99.0, dtype=self.states[0].dtype)
        for row, item in enumerate(items.tolist()):
            padded[row, : LENGTHS[item]] = self.states[item]
        return padded


def ensure(folder, source, kind="states", contents="abcdefgh", lengths=LENGTHS):
    """Make a store of items that look as ``contents`` says, a letter each."""
    words = {"kind": kind, "contents": lambda: list(contents)}
    ensure_states(folder, lengths, source, description="States", show_progress=False, **words)


@pytest.fixture(autouse=True)
def three_at_a_time(monkeypatch):
    monkeypatch.setattr(state_store, "_CHUNK", 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_of_all_types_and_lengths_come_back_bit_by_bit(tmp_path, dtype):
    source = Source(dtype)
    ensure(tmp_path / "states", source)
    store = StateStore(tmp_path / "states", LENGTHS, dtype, CPU)
    assert store.longest == 5
    for item, length in enumerate(LENGTHS):
        states = store.gather(torch.tensor([item]), int(length))
        assert states.dtype == dtype
        assert torch.equal(states[0], source.states[item])


def test_gather_keeps_the_order_and_repeats_the_last_state_of_shorter_items(tmp_path):
    source = Source()
    ensure(tmp_path / "states", source)
    items = torch.tensor([6, 0, 3, 6])
    states = StateStore(tmp_path / "states", LENGTHS, torch.float32, CPU).gather(items, 6)
    assert states.shape == (4, 6, WIDTH)
    for row, item in enumerate(items.tolist()):
        for position in range(6):
            expected = source.states[item][min(position, LENGTHS[item] - 1)]
            assert torch.equal(states[row, position], expected)


def test_gather_can_leave_out_later_positions(tmp_path):
    source = Source()
    ensure(tmp_path / "states", source)
    states = StateStore(tmp_path / "states", LENGTHS, torch.float32, CPU).gather(torch.tensor([3, 6]), 2)
    assert torch.equal(states, torch.stack([source.states[3][:2], source.states[6][:2]]))


def test_a_store_that_is_there_computes_nothing(tmp_path, caplog):
    caplog.set_level("INFO")
    ensure(tmp_path / "states", Source())
    again = Source()
    ensure(tmp_path / "states", again)
    assert again.asked == []
    assert f"States of {len(LENGTHS) - 1} items in {tmp_path / 'states'} (made)" in caplog.text
    assert f"States of {len(LENGTHS) - 1} items in {tmp_path / 'states'} (found)" in caplog.text


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("dies_at", "missing"), [(4, [[3, 4, 5], [6, 7]]), (7, [[6, 7]]), (2, [[0, 1, 2], [3, 4, 5], [6, 7]])]
)
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, dtype, dies_at, missing):
    ensure(tmp_path / "whole", Source(dtype))
    with pytest.raises(KeyboardInterrupt):
        ensure(tmp_path / "states", Source(dtype, dies_at))
    assert not (tmp_path / "states").exists()
    source = Source(dtype)
    ensure(tmp_path / "states", source)
    assert source.asked == [[0], *missing]  # item 0 alone tells the shape
    assert (tmp_path / "states" / "states.npy").read_bytes() == (tmp_path / "whole" / "states.npy").read_bytes()


@pytest.mark.parametrize("kept", range(LENGTHS.sum() + 1))
@pytest.mark.parametrize("torn", [0, 5])
def test_a_run_that_was_killed_while_writing_goes_on_behind_the_last_whole_row(tmp_path, kept, torn):
    """``kept`` rows and ``torn`` bytes of the next one had reached the disk."""
    source = Source()
    partial = tmp_path / "states.partial"
    partial.mkdir()
    rows = torch.cat(source.states).numpy()
    with ArrayWriter(partial / "states.npy", np.float32, rows.shape) as writer:
        writer.append(rows[:kept].copy())
    if kept < len(rows):
        with open(partial / "states.npy", "ab") as file:
            file.write(b"x" * torn)
    ensure(tmp_path / "states", source)
    asked = [item for batch in source.asked[1:] for item in batch]
    ends = np.cumsum(LENGTHS)
    assert asked == [item for item in range(len(LENGTHS)) if ends[item] > kept]  # an item's rows in part: all of it
    assert np.array_equal(np.load(tmp_path / "states" / "states.npy"), rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_another_catalogue_only_items_that_look_new_are_computed(tmp_path, dtype):
    source = Source(dtype)
    ensure(tmp_path / "states-1", source)
    now = [0, 6, 3, 2, 7, 3]  # the items of then that those of today are
    lengths = LENGTHS[now]

    class Today:
        asked = []

        def __call__(self, items):
            self.asked += items.tolist()
            return source(torch.tensor([now[item] for item in items.tolist()]))

    ensure(tmp_path / "states-2", today := Today(), contents="agdXhd", lengths=lengths)
    assert today.asked == [0, 3]  # the first for the shape
    store = StateStore(tmp_path / "states-2", lengths, dtype, CPU)
    for item, length in enumerate(lengths):
        assert torch.equal(store.gather(torch.tensor([item]), int(length))[0], source.states[now[item]])


def test_states_of_another_kind_are_not_taken(tmp_path):
    ensure(tmp_path / "states-1", Source())
    ensure(tmp_path / "states-2", source := Source(), kind="of another encoder")
    assert sum(source.asked, []) == [0, *range(8)]
