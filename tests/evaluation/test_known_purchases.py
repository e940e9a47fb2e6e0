"""In the test a general model knows the validation purchases, as a sequential one does; before it never."""

import logging
from contextlib import suppress

import numpy as np
import pytest
import torch

from recbole_perpeft.evaluation.known_purchases import knowing, reads_purchases
from recbole_perpeft.evaluation.ranked_rows import model_scorer
from recbole_perpeft.quick_start import load, run
from tests.matrix import quickly, slow
from tests.training import by_predict, scatter_groups

SMALL = {"embedding_size": 16, "epochs": 2, "mlp_hidden_size": [8]}
OURS = ["PerPEFTLightGCN", "PerPEFTNGCF", "PerPEFTSGL", "PerPEFTDGCF", "PerPEFTSpectralCF", "PerPEFTFISM",
        "PerPEFTNAIS", "PerPEFTSimpleX", "PerPEFTMacridVAE"]  # fmt: skip
AUTO_ENCODERS = ["CDAE", "MultiDAE", "MultiVAE", "MacridVAE", "RecVAE", "DiffRec"]
# each graph and each history in one of the two libraries' classes, two auto-encoders
QUICK = ["PerPEFTLightGCN", "PerPEFTSGL", "PerPEFTFISM", "PerPEFTSimpleX", "PerPEFTMacridVAE", "NGCF", "NCL", "DGCF",
         "SpectralCF", "NAIS", "DMF", "MultiVAE", "DiffRec"]  # fmt: skip
RECBOLES = ["LightGCN", "NGCF", "NCL", "SGL", "DGCF", "SpectralCF", "FISM", "NAIS", "SimpleX", "DMF", *AUTO_ENCODERS]


def _settings(model):
    settings = {**SMALL, "model": model, "state": "ERROR"}
    if model.endswith(("DGCF", "VAE")):
        settings |= {"n_factors": 2, "kfac": 2}
    if model in AUTO_ENCODERS:
        settings["train_neg_sample_args"] = None
    return settings


def _bought(dataset, held_out):
    """Each user's purchases but the last ``held_out``, bool ``[n_users, n_items]``; from the file's order."""
    frame, times = dataset.inter_feat, dataset.inter_feat["timestamp"].numpy()
    users, items = frame["user_id"].numpy(), frame["item_id"].numpy()
    matrix = np.zeros((dataset.user_num, dataset.item_num))
    for user in np.unique(users):
        own = items[users == user][np.argsort(times[users == user])]
        matrix[user, own[: len(own) - held_out]] = 1
    return matrix


@torch.no_grad()
def _scores(trainer, data):
    """Scores of all items for each user of ``data``, ``[users, n_items]``."""
    trainer.model.eval()
    torch.manual_seed(0)  # MacridVAE and DiffRec draw in an evaluation too
    with knowing(trainer.model, data):
        return torch.cat([trainer.model.full_sort_predict(rows).view(len(rows), -1) for rows, *_ in data])


@pytest.mark.parametrize("model", quickly(OURS + RECBOLES, QUICK))
def test_the_test_knows_one_purchase_more_and_no_other_evaluation_does(prepare, model):
    _, trainer, train_data, valid_data, test_data = prepare(**_settings(model))
    if model in OURS:
        scatter_groups(trainer.model, train_data)
    before, grown = _scores(trainer, valid_data), _scores(trainer, test_data)
    assert not torch.equal(before, grown)
    torch.testing.assert_close(_scores(trainer, valid_data), before, rtol=0, atol=0)
    torch.testing.assert_close(_scores(trainer, test_data), grown, rtol=0, atol=0)
    del test_data.known
    torch.testing.assert_close(_scores(trainer, test_data), before, rtol=0, atol=0)


@pytest.mark.parametrize("model", ["LightGCN", "PerPEFTLightGCN"])
@pytest.mark.parametrize("grow", [True, False])
def test_trained_embeddings_are_propagated_over_the_grown_graph(prepare, model, grow):
    settings = {**_settings(model), "n_layers": 2, "num_groups": 1, "grow_history": grow}
    if model == "PerPEFTLightGCN":
        settings |= {"loss_type": "BPR", "num_negatives": 1, "similar_items": None, "content_term": False}
    dataset, trainer, train_data, valid_data, test_data = prepare(**settings)
    trainer.fit(train_data, valid_data, verbose=False)
    trainer.evaluate(test_data)
    bought = _bought(dataset, 1 if grow else 2)
    edges = np.block([[np.zeros((dataset.user_num,) * 2), bought], [bought.T, np.zeros((dataset.item_num,) * 2)]])
    scale = (edges.sum(axis=1) + 1e-7) ** -0.5
    graph = scale[:, None] * edges * scale
    users = trainer.model.user_embedding.weight.detach().numpy()
    if model == "LightGCN":
        items = trainer.model.item_embedding.weight.detach().numpy()
    else:
        with trainer.model.item_tower.catalogue(0):
            items = trainer.model.item_tower.weight.numpy()
    first = np.concatenate([users, items])
    layers = (first + graph @ first + graph @ graph @ first) / 3
    expected = layers[: dataset.user_num] @ layers[dataset.user_num :].T
    found = _scores(trainer, test_data).numpy()
    np.testing.assert_allclose(found, expected[test_data.uid_list.numpy()], rtol=1e-4, atol=1e-6)


def test_content_neighbours_know_the_same_in_the_test_whatever_their_kind(prepare):
    scores = []
    for model in ("ContentNeighbours", "ContentNeighboursGeneral"):
        dataset, trainer, _, _, test_data = prepare(model=model, MAX_ITEM_LIST_LENGTH=50)
        users = dataset.id2token("user_id", np.concatenate([rows["user_id"].numpy() for rows, *_ in test_data]))
        items = np.argsort(dataset.id2token("item_id", np.arange(1, dataset.item_num)))
        scores.append(_scores(trainer, test_data)[np.argsort(users)][:, 1:][:, items])
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model", ["LightGCN", "PerPEFTLightGCN", slow("DMF"), slow("SimpleX"), "ContentNeighboursGeneral"]
)
def test_a_checkpoint_is_measured_as_at_the_end_of_its_run_and_either_way(tiny, model):
    result = run(config_dict=tiny(**_settings(model)).settings())
    _, trainer, _, valid_data, test_data = load(result["checkpoint"])
    for _ in range(2):
        assert trainer.evaluate(test_data) == pytest.approx(result["test_result"])
        assert trainer.evaluate(valid_data) == pytest.approx(result["best_valid_result"])
    found = trainer.evaluate(test_data, load_best_model=False)
    assert found == pytest.approx(result["test_result"])
    _, trainer, _, valid_data, test_data = load(result["checkpoint"], {"grow_history": False})
    assert trainer.evaluate(valid_data) == pytest.approx(result["best_valid_result"])
    assert trainer.evaluate(test_data) != pytest.approx(result["test_result"])


@pytest.mark.parametrize("model", ["LightGCN", "PerPEFTLightGCN", "ContentNeighboursGeneral", "PerPEFTFISM"])
@torch.no_grad()
def test_sampled_evaluation_knows_the_same(prepare, model):
    settings = _settings(model)
    _, trainer, _, _, test_data = prepare(**settings)
    whole = dict(zip(test_data.uid_list.tolist(), _scores(trainer, test_data), strict=True))
    mode = {"mode": {"valid": "uni10", "test": "uni10"}}
    _, _, _, _, sampled = prepare(**settings, eval_args=mode)
    with knowing(trainer.model, sampled):
        for rows, *_ in by_predict(sampled):
            expected = [whole[int(user)][item] for user, item in zip(rows["user_id"], rows["item_id"], strict=True)]
            torch.testing.assert_close(trainer.model.predict(rows), torch.stack(expected), rtol=1e-4, atol=1e-5)
    with model_scorer(trainer, sampled) as score:
        for users, scores, *_ in map(score, sampled):
            for user, own in zip(users["user_id"].tolist(), scores, strict=True):
                drawn = own > -torch.inf
                assert 1 < drawn.sum() < 12
                torch.testing.assert_close(own[drawn], whole[user][drawn], rtol=1e-4, atol=1e-5)


def test_training_goes_on_with_its_own_graph_when_a_test_breaks_off(prepare):
    _, trainer, _, _, test_data = prepare(**_settings("PerPEFTLightGCN"))
    graph, purchases = trainer.model.norm_adj_matrix, trainer.model._purchases
    with suppress(KeyError), knowing(trainer.model, test_data):
        assert trainer.model.norm_adj_matrix is not graph
        assert trainer.model._purchases is not purchases
        raise KeyError
    assert trainer.model.norm_adj_matrix is graph
    assert trainer.model._purchases is purchases
    assert "load_other_parameter" not in vars(trainer.model)


def test_the_log_names_a_model_that_cannot_know(prepare, caplog):
    models = {"BPR": False, "PerPEFTBPR": False, "EASE": False, "LightGCN": True, "ContentNeighboursGeneral": True}
    for model, can in models.items():
        caplog.clear()
        with caplog.at_level(logging.INFO):
            of_ours = {"content_term": False} if model.startswith("PerPEFT") else {}
            _, trainer, *_ = prepare(model=model, **SMALL, **of_ours)
        assert reads_purchases(type(trainer.model)) == can
        assert caplog.text.count(f"grow_history: {model} reads no purchases when it scores") == (not can)


def test_a_model_without_purchases_of_its_own_knows_them_in_its_content_term(prepare, caplog):
    with caplog.at_level(logging.INFO):
        _, trainer, _, valid_data, test_data = prepare(model="PerPEFTBPR", **SMALL)
    assert "grow_history" not in caplog.text
    trainer.model.item_tower.content_term.weight.fill_(5)
    known = trainer.evaluate(test_data, load_best_model=False)
    test_data.known = None
    assert trainer.evaluate(test_data, load_best_model=False) != known


def test_it_is_for_general_models(tiny):
    remark = "grow_history: False has no effect on PerPEFTSASRec: it is for general recommenders."
    assert remark in tiny(grow_history=False).remarks
    assert not any("grow_history" in remark for remark in tiny(model="LightGCN", grow_history=False).remarks)
