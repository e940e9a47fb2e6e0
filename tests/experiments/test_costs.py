"""Notes of what a run takes."""

import time
from types import SimpleNamespace

import torch

from recbole_perpeft.experiments.costs import Costs

EARLIER = {"epochs": [(0, 1.0), (1, 3.0), (6, 10.0)], "seconds": 14.0, "peak_memory_mib": 1e9}  # 2 to 5: stopped early


def trainer(notes):
    """What is asked of one, with an epoch that takes a tenth of a second."""

    def train_epoch(train_data, epoch_idx, show_progress):
        time.sleep(0.1)
        return 0.5

    return SimpleNamespace(config={"device": torch.device("cpu")}, notes=notes, _train_epoch=train_epoch)


def test_the_median_is_of_the_epochs_from_the_first_of_a_stage_on():
    costs = Costs(trainer(dict(EARLIER)), time.perf_counter())
    assert costs.median_epoch(6) == 10.0
    assert costs.median_epoch(0) == costs.median_epoch(7) == 3.0  # no stage 3 is all epochs
    assert Costs(trainer({}), time.perf_counter()).median_epoch(0) == 0.0


def test_what_an_earlier_process_took_is_added_to():
    resumed = trainer({**EARLIER, "epochs": list(EARLIER["epochs"])})
    costs = Costs(resumed, time.perf_counter() - 2)
    assert resumed._train_epoch(None, 7, show_progress=False) == 0.5
    assert [number for number, _ in resumed.notes["epochs"]] == [0, 1, 6, 7]
    assert resumed.notes["epochs"][-1][1] >= 0.1
    assert resumed.notes["seconds"] >= 14 + 2 + 0.1
    assert costs.notes["peak_memory_mib"] == 1e9
