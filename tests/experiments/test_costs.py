"""Notes of what a run takes."""

from types import SimpleNamespace

import pytest
import torch

from recbole_perpeft.experiments import costs as costs_module
from recbole_perpeft.experiments.costs import Costs

EARLIER = {"epochs": [(0, 1.0), (1, 3.0), (6, 10.0)], "seconds": 14.0, "peak_memory_mib": 1e9}  # 2 to 5: stopped early


@pytest.fixture
def trainer(monkeypatch):
    """``trainer(notes)``: what is asked of one, with an epoch that takes half a second, on a clock that stands at 5."""
    clock = SimpleNamespace(now=5.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(costs_module, "time", clock)

    def train_epoch(train_data, epoch_idx, show_progress):
        clock.now += 0.5
        return 0.25

    return lambda notes: SimpleNamespace(config={"device": torch.device("cpu")}, notes=notes, _train_epoch=train_epoch)


def test_the_median_is_of_the_epochs_from_the_first_of_a_stage_on(trainer):
    costs = Costs(trainer(dict(EARLIER)), began=5.0)
    assert costs.median_epoch(6) == 10.0
    assert costs.median_epoch(0) == costs.median_epoch(7) == 3.0  # no stage 3 is all epochs
    assert Costs(trainer({}), began=5.0).median_epoch(0) == 0.0


def test_what_an_earlier_process_took_is_added_to(trainer):
    resumed = trainer({**EARLIER, "epochs": list(EARLIER["epochs"])})
    costs = Costs(resumed, began=3.0)
    assert resumed._train_epoch(None, 7, show_progress=False) == 0.25
    assert resumed.notes["epochs"] == [*EARLIER["epochs"], (7, 0.5)]
    assert resumed.notes["seconds"] == 14 + 2 + 0.5
    assert costs.notes["peak_memory_mib"] == 1e9
