"""Soft groups: shares against loops, their search against trying all, and what becomes of them in a checkpoint."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_perpeft.grouping.assignment import losses_of_users
from recbole_perpeft.grouping.posterior import posteriors, soft_shares
from recbole_perpeft.quick_start import load, run
from recbole_perpeft.trainer.group_shares import find_group_shares
from tests.model.test_backbones import sizes
from tests.training import mean_gain, scatter_groups


def shares_by_loop(losses, sizes, own, temperature, degree):
    rows = []
    for of_user, group in zip(losses.tolist(), own.tolist(), strict=True):
        weights = [size * np.exp(-loss / temperature) for size, loss in zip(sizes, of_user, strict=True)]
        shares = [degree * weight / sum(weights) for weight in weights]
        shares[group] += 1 - degree
        shares = [share if share >= 0.02 else 0 for share in shares]
        rows.append([share / sum(shares) for share in shares])
    return np.array(rows)


@pytest.mark.parametrize(("temperature", "degree"), [(1, 1), (8, 0.75), (2, 0)])
def test_shares_are_the_posterior_and_the_own_group(temperature, degree):
    losses = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 10
    own, sizes = torch.arange(20) % 3, torch.tensor([10, 6, 4])
    shares = soft_shares(own, posteriors(losses, sizes, temperature), degree)
    expected = shares_by_loop(losses, sizes.tolist(), own, temperature, degree)
    np.testing.assert_allclose(shares.numpy(), expected, rtol=1e-5)


@pytest.fixture
def soft(prepare):
    """A model whose groups differ, with shares in several of them."""

    def make(**settings):
        _, trainer, train_data, valid_data, test_data = prepare(peft_type="LORA", **settings)
        scatter_groups(trainer.model, train_data)
        trainer.model.eval()
        users, sums, _ = losses_of_users(trainer.model, train_data)
        trainer.model.group_losses[users] = torch.from_numpy(sums).float()
        trainer.model.group_temperature.fill_(5)
        trainer.model.group_softness.fill_(0.6)
        return trainer, train_data, valid_data

    return make


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBERT4Rec", "PerPEFTBPR", "PerPEFTLightGCN", "PerPEFTNeuMF"])
def test_scores_are_those_of_all_groups_by_their_shares(soft, model):
    trainer, _, valid_data = soft(**sizes(model))
    model, rows = trainer.model, next(iter(valid_data))[0]
    pairs = Interaction({**rows.interaction, "item_id": torch.arange(len(rows)) % 30 + 1})
    with torch.no_grad():
        found, of_pairs = model.full_sort_predict(rows), model.predict(pairs)
        by_group = []
        for group in range(model.num_groups):
            with model.scored_by(group):
                by_group.append(model.full_sort_predict(rows).view(len(rows), -1).numpy())
    users = rows["user_id"]
    of_groups = [int((model.user_groups == group).sum()) for group in range(model.num_groups)]
    shares = shares_by_loop(model.group_losses[users], of_groups, model.user_groups[users], 5, 0.6)
    expected = sum(shares[:, group, None] * by_group[group] for group in range(model.num_groups))
    np.testing.assert_allclose(found.view(len(rows), -1).numpy(), expected, rtol=1e-4, atol=1e-4)
    picked = expected[np.arange(len(rows)), pairs["item_id"]]
    np.testing.assert_allclose(of_pairs.numpy(), picked, rtol=1e-4, atol=1e-4)
    own = np.stack([by_group[group][row] for row, group in enumerate(model.user_groups[users].tolist())])
    assert not np.allclose(own, expected, rtol=1e-4, atol=1e-4)


def test_a_user_whose_group_is_hidden_gets_the_shares_that_their_history_gives(soft):
    trainer, train_data, _ = soft(content_term=False)
    model, user = trainer.model, int(train_data.users[3])
    items = train_data.histories[user]
    history = torch.zeros(1, model.max_seq_length, dtype=torch.long)
    history[0, : len(items)] = torch.from_numpy(items)
    kept = model.group_losses[user].clone()
    with torch.no_grad():
        found = model._losses_of_new(torch.tensor([user]), history)[0]
    torch.testing.assert_close(found, kept, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["full", "uni7"])
def test_no_other_temperature_and_degree_of_those_tried_is_better(soft, mode):
    evaluation = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode}
    trainer, train_data, valid_data = soft(eval_args=evaluation)
    find_group_shares(trainer, train_data, valid_data)
    model, best = trainer.model, mean_gain(trainer, valid_data)
    for temperature in (2, 8, 32):
        for degree in (0, 0.25, 0.5, 0.75, 1):
            model.group_temperature.fill_(temperature)
            model.group_softness.fill_(degree)
            assert mean_gain(trainer, valid_data) <= best + 1e-6


def test_a_checkpoint_brings_them_back(tiny):
    result = run(config_dict=tiny(epochs=8, global_epochs=2, learning_rate=0.03).settings())
    _, trainer, _, _, test_data = load(result["checkpoint"])
    assert {"group_softness", "group_temperature", "group_losses"} <= set(trainer.model.state_dict())
    assert trainer.evaluate(test_data, load_best_model=False) == pytest.approx(result["test_result"])


@pytest.mark.parametrize("settings", [{"num_groups": 1}, {"soft_groups": False}, {"personalised_by": "user_vector"}])
def test_groups_stay_as_they_are_where_none_can_be_soft(prepare, settings):
    _, trainer, *_ = prepare(**settings)
    assert not hasattr(trainer.model, "group_softness")
    assert not trainer.model.is_soft


def test_of_many_groups_that_are_about_as_likely_the_likeliest_stays():
    posterior = torch.full((2, 120), 1 / 120)
    posterior[0, 7] += 0.001
    shares = soft_shares(torch.tensor([3, 3]), posterior, 1.0)
    assert shares[0].nonzero().flatten().tolist() == [7]
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2))
