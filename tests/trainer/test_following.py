"""Users who follow the modules of their groups in stage 3."""

import numpy as np
import pytest
import torch

from recbole_perpeft.grouping.posterior import DRAWN_AT
from recbole_perpeft.trainer import user_groups
from recbole_perpeft.trainer.steps import Steps
from tests.training import fit, record, resume

FIELDS = ("user_id", "item_id_list", "item_id")
SETTINGS = {"epochs": 6, "global_epochs": 2, "learning_rate": 0.05}


@pytest.fixture
def told(monkeypatch):
    """Modules of tiny data tell little: users follow whatever they tell."""
    monkeypatch.setattr(user_groups, "_TOLD", 0.0)


def posteriors(model, train_data):
    """Of each user ``[n_users, num_groups]``, by cosines to what was bought before, purchase by purchase."""
    prefixes, term = train_data.purchases, model.item_tower.content_term
    temperature, decay = term.softness.tolist()
    sums = np.zeros((len(model.user_groups), model.num_groups))
    for group in range(model.num_groups):
        with torch.no_grad(), model.item_tower.catalogue(group):
            table = term.learnt_table.double().numpy()
        for user, items, target in zip(*(prefixes[name].tolist() for name in FIELDS), strict=True):
            history = [item for item in items if item]
            query = sum(decay ** (len(history) - 1 - place) * table[item] for place, item in enumerate(history))
            scores = table[1:] @ query / np.linalg.norm(query) / temperature
            sums[user, group] += np.log(np.exp(scores).sum()) - scores[target - 1]
    weights = np.exp(-(sums - sums.min(axis=1, keepdims=True)) / DRAWN_AT)
    return weights / weights.sum(axis=1, keepdims=True)


def test_users_are_put_into_the_likeliest_groups_by_what_they_bought(prepare, told):
    trainer, _ = fit(prepare, stop_after=3, **SETTINGS)
    model, train_data = trainer.model, trainer._train_data
    expected = posteriors(model, train_data)[1:].argmax(axis=1)
    trainer.groups.follow(train_data, 4)
    assert model.user_groups[1:].tolist() == expected.tolist()
    assert len(set(expected)) > 1
    assert model.user_groups[0] == -1  # padding


def test_an_epochs_groups_are_drawn_as_often_as_they_are_likely(prepare, told):
    trainer, _ = fit(prepare, stop_after=3, **SETTINGS)
    model, train_data = trainer.model, trainer._train_data
    trainer.groups.follow(train_data, 4)
    expected = posteriors(model, train_data)[1:]
    draws = np.array([model.drawn_groups(torch.Generator().manual_seed(seed))[1:] for seed in range(4000)])
    shares = np.stack([(draws == group).mean(axis=0) for group in range(model.num_groups)], axis=1)
    np.testing.assert_allclose(shares, expected, atol=0.04)
    assert expected.max(axis=1).min() < 0.9
    model.group_losses[1] = 0  # as of who has not been asked yet
    own = int(model.user_groups[1])
    assert {int(model.drawn_groups(torch.Generator().manual_seed(seed))[1]) for seed in range(20)} == {own}


def test_batches_are_of_the_groups_that_are_drawn_for_the_epoch(prepare, told, monkeypatch):
    _, trainer, train_data, valid_data, _ = prepare(**SETTINGS)
    groups, train_window = {}, Steps.train_window

    def watched(steps, batches):
        of_epoch = groups.setdefault(trainer.epoch, {})
        of_epoch.update({int(user): batch.group for batch in batches for user in batch.users})
        return train_window(steps, batches)

    monkeypatch.setattr(Steps, "train_window", watched)
    trainer.fit(train_data, valid_data, verbose=False)
    assert [len(groups[epoch]) for epoch in range(6)] == [40] * 6
    assert groups[2] != groups[3] != groups[4] != groups[5]


def test_users_stay_as_long_as_modules_do_not_tell_them_apart(prepare, monkeypatch):
    monkeypatch.setattr(user_groups, "_TOLD", 1.0)
    trainer, _ = fit(prepare, stop_after=2, **SETTINGS)
    first = trainer.model.user_groups.clone()
    trainer.groups.follow(trainer._train_data, 3)
    assert torch.equal(trainer.model.user_groups, first)
    assert not trainer.model.group_losses.any()


@pytest.mark.parametrize("settings", [{"soft_groups": False}, {"regroup_epochs": 3, "group_negatives": False}])
def test_users_do_not_follow_without_soft_groups_or_where_they_move_all_at_once(prepare, told, settings, caplog):
    caplog.set_level("INFO")
    fit(prepare, **SETTINGS, **settings)
    assert "belong to another group" not in caplog.text


def test_of_many_users_some_follow_at_each_validation(prepare, told, monkeypatch):
    monkeypatch.setattr(user_groups, "FOLLOWED", 100)
    trainer, _ = fit(prepare, stop_after=2, **SETTINGS)
    model, train_data = trainer.model, trainer._train_data
    turns = -(-len(train_data.purchases) // 100)
    assert turns > 1
    model.group_losses.zero_()
    seen = []
    for epoch in range(turns):
        before = model.group_losses.any(dim=1)
        trainer.groups.follow(train_data, epoch)
        seen.append((model.group_losses.any(dim=1) & ~before).sum())
    assert all(seen)
    assert sum(seen) == 40


@pytest.mark.parametrize("eval_step", [1, 2])
def test_a_killed_run_goes_on_as_it_would_have(prepare, told, tmp_path, eval_step):
    settings = {**SETTINGS, "eval_step": eval_step}
    whole = record(prepare, tmp_path / "epochs", **settings)
    for epoch in whole.validated[2:-1]:
        again, result = resume(prepare, whole.checkpoint(epoch), **settings)
        assert result == whole.result
        for key, value in again.model.state_dict().items():
            assert torch.equal(value, whole.trainer.model.state_dict()[key]), key
