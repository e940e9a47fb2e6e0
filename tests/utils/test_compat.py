"""RecBole's own models run on today's libraries, through the same entry."""

import os
import sys

import numpy as np
import pytest
import torch

from recbole_perpeft.quick_start import run
from recbole_perpeft.utils.compat import libraries
from tests.matrix import slow


@pytest.mark.parametrize(
    "model",
    [slow("SASRec"), slow("GRU4Rec"), "BPR", slow("LightGCN"), "DGCF", slow("NeuMF"), "MultiVAE", "EASE", "Pop"],
)
def test_recboles_models_run_to_a_test_score(tiny, model):
    settings = {"epochs": 1, "global_epochs": 1}
    result = run(config_dict=tiny(model=model, **settings).settings())
    assert {"best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"} <= set(result)
    assert 0 <= result["test_result"]["ndcg@10"] <= 1
    assert result["best_valid_score"] == result["best_valid_result"]["ndcg@10"]


def test_a_run_beside_may_make_the_folders_first(tiny, tmp_path, monkeypatch):
    """RecBole looks whether a folder is there and then makes it, which fails if another run does so in between."""
    monkeypatch.chdir(tmp_path)
    make, made = os.makedirs, []
    monkeypatch.setattr(
        os, "makedirs", lambda name, *args, **kwargs: (made.append(str(name)), make(name, *args, **kwargs))
    )
    run(config_dict=tiny(model="Pop", checkpoint_dir=str(tmp_path / "saved" / "deep")).settings())
    assert (tmp_path / "log" / "Pop").is_dir()
    assert (tmp_path / "saved" / "deep").is_dir()
    assert not [name for name in made if name.startswith(("./log", str(tmp_path / "saved")))]


def test_names_that_recbole_reads_are_back():
    assert np.float is np.float64
    assert np.zeros(1, dtype=np.long).dtype == np.int_
    from recbole.model.general_recommender import lightgcn

    matrix = lightgcn.sp.dok_matrix((2, 2))
    matrix._update({(0, 1): 3.0})
    assert matrix.toarray().tolist() == [[0, 3], [0, 0]]


def test_nobody_elses_torch_load_is_changed():
    import recbole.trainer.trainer as trainer_module

    assert torch.load is not trainer_module.torch.load
    assert trainer_module.torch.optim is torch.optim


def test_recboles_ngcf_ranks_without_dropout(prepare):
    _, trainer, _, valid_data, _ = prepare(model="NGCF", message_dropout=0.9)
    net, interaction = trainer.model.eval(), next(iter(valid_data))[0]
    scores = []
    for _ in range(2):
        net.restore_user_e = net.restore_item_e = None
        scores.append(net.full_sort_predict(interaction))
    assert torch.equal(*scores)


def test_anomaly_mode_that_the_application_wants_stays(monkeypatch):
    monkeypatch.delitem(sys.modules, "recbole.model.sequential_recommender.sine")
    torch.autograd.set_detect_anomaly(True)
    libraries._end_anomaly_mode()
    assert torch.is_anomaly_enabled()
    monkeypatch.undo()
    libraries._end_anomaly_mode()  # RecBole has switched it on
    assert not torch.is_anomaly_enabled()
