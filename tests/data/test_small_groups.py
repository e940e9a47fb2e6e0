"""Few users, or users who are alike: no run stops for it once stage 1 is trained."""

import logging

import numpy as np
import pytest

from recbole_perpeft.experiments.worker import ranks_of_targets
from tests.matrix import slow
from tests.model.test_backbones import sizes
from tests.tiny_data import write_atomic
from tests.tiny_models import save_tiny_clip

FEW = {"user_sample": 13, "num_groups": 8, "regroup_epochs": 1, "epochs": 3, "global_epochs": 1}


def trained(prepare, **settings):
    _, trainer, train_data, valid_data, test_data = prepare(**{**settings, **FEW, "group_negatives": True})
    trainer.fit(train_data, valid_data, verbose=False, saved=False)
    assert trainer.stage == "personalised"
    return trainer, train_data, test_data


@pytest.mark.parametrize(
    "settings",
    [
        slow({"grouping": "kmeans", "loss_type": "BPR", "num_negatives": 2}),
        {"grouping": "coherence", "loss_type": "CE", "correct_sampling": True},
        slow({"grouping": "random", "loss_type": "CE", "num_negatives": None}),
        slow({"grouping": "kmeans", **sizes("PerPEFTDGCF")}),
    ],
)
def test_thirteen_users_train_in_eight_groups_and_are_all_ranked(prepare, caplog, settings):
    trainer, train_data, test_data = trained(prepare, **settings)
    pools, groups = train_data.pools, train_data.groups
    for user, items in train_data.histories.items():
        assert len(np.setdiff1d(pools.pools[groups[user]], items)) > 0
    warned = [record.message for record in caplog.records if "bought all of them" in record.message]
    assert warned
    assert all(record.levelno == logging.WARNING for record in caplog.records if record.message in warned)
    assert len(ranks_of_targets(trainer, test_data)) == 13  # some of them alone in a block


@pytest.mark.parametrize("grouping", ["kmeans", slow("coherence")])
def test_users_of_two_kinds_leave_six_of_eight_groups_empty(prepare, tmp_path, caplog, grouping):
    items = [f"i{number}" for number in range(20)]
    sequences = {f"u{user}": items[:6] for user in range(12)} | {"u12": items[6:]}
    save_tiny_clip(write_atomic(tmp_path, "tiny", sequences, items) / "clip")
    trainer, *_ = trained(prepare, data_path=str(tmp_path), grouping=grouping)
    assert len(trainer.model.user_groups[1:].unique()) == 2
    assert "No user is in group 2, 3, 4, 5, 6, 7" in caplog.text
