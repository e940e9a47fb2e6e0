"""RecBole's baselines that count instead of training: their scores against plain numpy, of training purchases only."""

import numpy as np
import pytest
import torch

from tests.tiny_data import random_sequences, write_atomic

REPEATS = {"rm_dup_inter": None, "mask_history": False}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with the data set ``shop``, where some purchases are repeated, and its sequences."""
    sequences, items = random_sequences(n_users=50, n_items=20, seed=3)
    for user in list(sequences)[::2]:
        sequences[user] = [sequences[user][0], *sequences[user]]
    root = tmp_path_factory.mktemp("shop")
    write_atomic(root, "shop", sequences, items)
    return root, sequences


@pytest.fixture
def scores_of(prepare, shop):
    """``scores_of(model, **settings)``: scores of all items, and training purchases, ``[n_users, n_items]`` each."""
    root, sequences = shop

    def fitted(model, **settings):
        settings = {"dataset": "shop", "data_path": str(root), **REPEATS, **settings}
        dataset, trainer, train_data, valid_data, test_data = prepare(model=model, **settings)
        trainer.fit(train_data, valid_data, saved=False, verbose=False)
        assert trainer.evaluate(test_data, load_best_model=False)["ndcg@10"] > 0
        users = torch.arange(1, dataset.user_num)
        fields = {name: test_data._dataset.inter_feat[name][:1].repeat(len(users)) for name in ("user_id", "item_id")}
        interaction = type(test_data._dataset.inter_feat)({**fields, "user_id": users})
        found = trainer.model.full_sort_predict(interaction).view(len(users), -1)[:, 1:].double().numpy()
        bought = np.zeros_like(found)  # times
        for user, items in sequences.items():
            row = dataset.field2token_id["user_id"][user] - 1
            for item in items[:-2]:  # the last two are held out
                bought[row, dataset.field2token_id["item_id"][item] - 1] += 1
        return found, bought

    return fitted


@pytest.mark.parametrize("batch", [7, 2048])
def test_pop_ranks_by_training_purchases(scores_of, batch):
    scores, bought = scores_of("Pop", train_batch_size=batch, epochs=3)
    counts = bought.sum(axis=0)
    np.testing.assert_allclose(scores, np.tile(counts / counts.max(), (len(scores), 1)))


@pytest.mark.parametrize("shrink", [0.0, 2.0])
def test_itemknn_is_the_cosine_of_purchases(scores_of, shrink):
    scores, bought = scores_of("ItemKNN", k=100, shrink=shrink)
    lengths = np.sqrt((bought**2).sum(axis=0))
    cosine = bought.T @ bought / (np.outer(lengths, lengths) + shrink + 1e-6)
    np.fill_diagonal(cosine, 0)
    np.testing.assert_allclose(scores, bought @ cosine, rtol=1e-4, atol=1e-6)


def test_itemknn_keeps_the_nearest_items_only(scores_of):
    scores, bought = scores_of("ItemKNN", k=3)
    lengths = np.sqrt((bought**2).sum(axis=0))
    cosine = bought.T @ bought / (np.outer(lengths, lengths) + 1e-6)
    np.fill_diagonal(cosine, 0)
    third = np.sort(cosine, axis=0)[-3]
    untied = (cosine >= third).sum(axis=0) == 3  # which of equals are kept is chance
    kept = np.where(cosine >= third, cosine, 0)
    assert untied.sum() > 5
    np.testing.assert_allclose(scores[:, untied], (bought @ kept)[:, untied], rtol=1e-4, atol=1e-6)


def test_ease_solves_its_ridge_regression(scores_of):
    scores, bought = scores_of("EASE", reg_weight=5.0)
    n = bought.shape[1]
    for item in range(n):  # one regression for each item, on all others
        others = np.delete(np.arange(n), item)
        gram = bought[:, others].T @ bought[:, others] + 5.0 * np.eye(n - 1)
        weights = np.linalg.solve(gram, bought[:, others].T @ bought[:, item])
        np.testing.assert_allclose(scores[:, item], bought[:, others] @ weights, rtol=1e-3, atol=1e-4)


def test_admmslim_and_slim_learn_from_purchases_without_noise(scores_of):
    scores, bought = scores_of("ADMMSLIM", lambda1=0.0, lambda2=5.0, alpha=0.0, rho=1.0, k=300, positive_only=False,
                               center_columns=False)  # fmt: skip
    ridge, _ = scores_of("EASE", reg_weight=5.0)  # what it converges to without its further penalties
    np.testing.assert_allclose(scores, ridge, rtol=1e-2, atol=2e-3)
