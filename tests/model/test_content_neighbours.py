"""Content neighbours against scikit-learn and loops, and their runs from settings to a table."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from recbole_perpeft.config.choices import CENTRED, FEATURE_FORMS, RAW, WHITENED
from recbole_perpeft.likeness import similarity
from recbole_perpeft.likeness.similarity import profiles, unit_vectors
from recbole_perpeft.quick_start import load, run
from recbole_perpeft.utils.errors import SettingError

BOTH = ["ContentNeighbours", "ContentNeighboursGeneral"]


@pytest.fixture
def features():
    rows = torch.randn(60, 8, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [9.0, 3, 1, 1, 1, 0.1, 0.01, 1]
    )
    return torch.cat([torch.zeros(1, 8), rows + 5])  # [1 + 60, 8]


@pytest.mark.parametrize("chunk", [1000, 7])
@pytest.mark.parametrize("form", FEATURE_FORMS)
def test_inner_products_are_the_cosines_of_raw_centred_or_whitened_rows(features, form, chunk, monkeypatch):
    monkeypatch.setattr(similarity, "_CHUNK", chunk)
    rows = features[1:].double().numpy()
    pca = PCA().fit(rows)
    scales = np.sqrt(pca.explained_variance_ * 59 / 60 + 0.01 * rows.var(axis=0).mean())
    expected = {RAW: rows, CENTRED: rows - rows.mean(axis=0), WHITENED: pca.transform(rows) / scales}[form]
    vectors = unit_vectors(features, form)
    assert vectors[0].count_nonzero() == 0
    np.testing.assert_allclose((vectors[1:] @ vectors[1:].T).numpy(), cosine_similarity(expected), atol=1e-5)


def test_directions_in_which_nothing_varies_do_not_count(features):
    padded = torch.cat([features, torch.full((61, 8), 0.5)], dim=1)
    rows = features[1:].double().numpy()
    covariance = np.cov(rows.T, bias=True) + 0.01 * rows.var(axis=0).sum() / 16 * np.eye(8)  # the mean is of all 16
    white = (rows - rows.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    vectors = unit_vectors(padded, WHITENED)[1:]
    np.testing.assert_allclose((vectors @ vectors.T).numpy(), cosine_similarity(white), atol=1e-5)
    same = torch.cat([torch.zeros(1, 4), torch.ones(5, 4)])
    for form in (CENTRED, WHITENED):
        assert unit_vectors(same, form).count_nonzero() == 0


@pytest.mark.parametrize("decay", [0, 0.5, 1])
def test_a_profile_is_the_weighted_sum_of_what_was_bought(features, decay):
    vectors = unit_vectors(features, RAW)
    histories = torch.tensor([[3, 7, 9], [4, 0, 0], [0, 0, 0]])
    by_hand = decay**2 * vectors[3] + decay * vectors[7] + vectors[9]
    found = profiles(vectors, histories, decay)
    torch.testing.assert_close(found[0], by_hand / by_hand.norm())
    torch.testing.assert_close(found[1], vectors[4])
    assert found[2].count_nonzero() == 0


@pytest.mark.parametrize("model", BOTH)
def test_what_is_best_in_validation_is_chosen_and_loaded_again(tiny, model):
    settings = tiny(model=model, epochs=1).settings()
    result = run(config_dict=settings)
    config, trainer, _, valid_data, test_data = load(result["checkpoint"])
    scores = []
    for number in range(len(trainer.model.candidates)):
        trainer.model.choose(number)
        scores.append(float(trainer.evaluate(valid_data, load_best_model=False)[config["valid_metric"].lower()]))
    trainer.model.choose(int(np.argmax(scores)))
    assert len(scores) == 3 * 3 * 4  # both modalities and each, forms, decays
    assert max(scores) == pytest.approx(result["best_valid_score"], abs=1e-4)
    assert trainer.evaluate(test_data, load_best_model=False) == pytest.approx(result["test_result"])


def test_a_run_that_goes_on_ends_with_the_same_numbers_and_no_warning_of_others(tiny, caplog):
    result = run(config_dict=tiny(model="ContentNeighbours", epochs=1).settings())
    again = run(config_dict={"resume": result["checkpoint"]})
    assert again["test_result"] == result["test_result"]
    assert "goes on from its best epoch" not in caplog.text


def test_scores_of_pairs_are_those_of_the_whole_catalogue(prepare):
    for model in BOTH:
        _, trainer, _, valid_data, _ = prepare(model=model)
        interaction = next(iter(valid_data))[0]
        whole = trainer.model.full_sort_predict(interaction)
        interaction.update(type(interaction)({"item_id": torch.full((len(interaction),), 5)}))
        torch.testing.assert_close(trainer.model.predict(interaction), whole[:, 5])


@pytest.mark.parametrize("model", BOTH)
def test_a_model_that_is_pickled_scores_as_before(prepare, model):
    _, trainer, _, valid_data, _ = prepare(model=model)
    interaction = next(iter(valid_data))[0]
    scores = trainer.model.full_sort_predict(interaction)
    again = pickle.loads(pickle.dumps(trainer.model))
    torch.testing.assert_close(again.full_sort_predict(interaction), scores)
    again.choose(len(again.candidates) - 1)
    assert not torch.equal(again.full_sort_predict(interaction), scores)


def test_in_validation_both_kinds_know_the_same_of_a_user(prepare):
    scores = []
    for model in BOTH:
        dataset, trainer, _, valid_data, _ = prepare(model=model, MAX_ITEM_LIST_LENGTH=50)
        score = {}
        for interaction, *_ in valid_data:
            users = dataset.id2token("user_id", interaction["user_id"].numpy())
            items = dataset.id2token("item_id", np.arange(1, dataset.item_num))
            rows = trainer.model.full_sort_predict(interaction)[:, 1:]
            score |= {user: dict(zip(items, row.tolist(), strict=True)) for user, row in zip(users, rows, strict=True)}
        scores.append(score)
    assert scores[0].keys() == scores[1].keys()
    for user, row in scores[0].items():
        assert row == pytest.approx(scores[1][user], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbour_features": ["white"]}, "Unknown neighbour_features 'white'. Did you mean 'whitened'"),
        ({"neighbour_decay": []}, r"neighbour_decay: \[\] is not possible: name at least one"),
        ({"neighbour_decay": [0.5, 2]}, "neighbour_decay: 2 is not possible: it must be a number from 0 to 1"),
        ({"neighbour_decay": [0.5, None]}, "neighbour_decay: None is not possible: it must be a number from 0 to 1"),
        ({"neighbour_decay": None}, "neighbour_decay: None is not possible: it must be a number from 0 to 1"),
    ],
)
def test_values_that_are_not_possible_are_refused(tiny, settings, message):
    with pytest.raises(SettingError, match=message):
        tiny(model="ContentNeighbours", **settings)


def test_one_value_is_a_list_of_one_and_what_is_for_training_has_no_effect(tiny):
    config = tiny(model="ContentNeighbours", neighbour_decay=0.5, neighbour_features="raw", modalities=["text"])
    assert any("learning_rate: 0.01 has no effect on ContentNeighbours" in remark for remark in config.remarks)
    assert any("num_groups: 3 has no effect on ContentNeighbours" in remark for remark in config.remarks)
