"""Users who follow the modules of their groups in stage 3."""

import numpy as np
import pytest
import torch

from recbole_perpeft.data.item_lists import last_items
from recbole_perpeft.grouping.assignment import losses_of_users
from recbole_perpeft.grouping.posterior import DRAWN_AT, tell_apart
from recbole_perpeft.trainer import user_groups
from recbole_perpeft.trainer.steps import Steps
from recbole_perpeft.trainer.user_groups import UserGroups
from tests.training import fit, record, resume

FIELDS = ("user_id", "item_id_list", "item_id")
SETTINGS = {"grouping": "coherence", "epochs": 6, "global_epochs": 2, "learning_rate": 0.05}


@pytest.fixture
def told(monkeypatch):
    """Modules of tiny data tell little: users follow whatever they tell."""
    monkeypatch.setattr(user_groups, "tell_apart", lambda losses: True)


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
    sizes = np.bincount(model.user_groups[model.user_groups >= 0], minlength=model.num_groups).clip(1)
    weights = sizes * np.exp(-(sums - sums.min(axis=1, keepdims=True)) / DRAWN_AT)
    return weights / weights.sum(axis=1, keepdims=True)


def test_users_are_put_into_the_likeliest_groups_by_what_they_bought(prepare):
    model, train_data = before_any_follow(prepare)
    expected = posteriors(model, train_data)[1:].argmax(axis=1)
    users, losses, _ = losses_of_users(model, train_data)
    model.follow(users, torch.from_numpy(losses))
    assert model.user_groups[1:].tolist() == expected.tolist()
    assert len(set(expected)) > 1
    assert model.user_groups[0] == -1  # padding
    assert model.regroupings == 1  # so that users who come later are treated alike


def test_users_who_come_later_get_the_likeliest_group_too(prepare, told):
    trainer, _ = fit(prepare, stop_after=3, **SETTINGS)
    model, train_data = trainer.model, trainer._train_data
    assert model.regroupings
    model.group_losses.zero_()
    expected = posteriors(model, train_data)[1:].argmax(axis=1)
    histories = last_items(train_data.histories.values(), model.max_seq_length)
    found = model.groups_of_new(torch.arange(1, 41), histories)
    assert found.tolist() == expected.tolist()


def before_any_follow(prepare):
    trainer, _ = fit(prepare, stop_after=3, **SETTINGS)
    assert not trainer.model.group_losses.any()  # modules of tiny data tell little
    return trainer.model, trainer._train_data


def test_an_epochs_groups_are_drawn_as_often_as_they_are_likely(prepare):
    model, train_data = before_any_follow(prepare)
    users, losses, _ = losses_of_users(model, train_data)
    model.group_losses[torch.from_numpy(users)] = torch.from_numpy(losses).float()
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
    drawn, draw = {}, trainer.model.drawn_groups

    def recorded(generator):
        drawn[trainer.epoch] = draw(generator)
        return drawn[trainer.epoch]

    monkeypatch.setattr(trainer.model, "drawn_groups", recorded)

    def watched(steps, batches):
        of_epoch = groups.setdefault(trainer.epoch, {})
        of_epoch.update({int(user): batch.group for batch in batches for user in batch.users})
        return train_window(steps, batches)

    monkeypatch.setattr(Steps, "train_window", watched)
    trainer.fit(train_data, valid_data, verbose=False)
    assert [len(groups[epoch]) for epoch in range(6)] == [40] * 6
    assert list(drawn) == [2, 3, 4, 5]
    for epoch, of_users in drawn.items():
        assert groups[epoch] == dict(enumerate(of_users[1:].tolist(), start=1))
    assert any((drawn[2] != drawn[epoch]).any() for epoch in (3, 4, 5))


def test_users_stay_as_long_as_modules_do_not_tell_them_apart(prepare):
    model, train_data = before_any_follow(prepare)
    first = model.user_groups.clone()
    sizes = np.bincount(first[1:], minlength=model.num_groups)
    likelihoods = posteriors(model, train_data)[1:] / sizes
    assert (likelihoods / likelihoods.sum(axis=1, keepdims=True)).max(axis=1).mean() < 0.5
    UserGroups({"eval_step": 1}, model).follow(train_data, 3)
    assert torch.equal(model.user_groups, first)
    assert not model.group_losses.any()


@pytest.mark.parametrize(("chances", "apart"), [((0.6, 0.2, 0.2), True), ((0.4, 0.3, 0.3), False)])
def test_modules_tell_users_apart_if_one_group_is_likelier_than_the_others_together(chances, apart):
    losses = -DRAWN_AT * torch.tensor([chances, chances[::-1]]).log() + torch.tensor([[3.0], [70.0]])
    assert tell_apart(losses) is apart


@pytest.mark.parametrize("settings", [{"soft_groups": False}, {"regroup_epochs": 3}, {"grouping": "random"}])
def test_users_do_not_follow_without_soft_groups_or_where_they_move_all_at_once(prepare, told, settings, caplog):
    caplog.set_level("INFO")
    fit(prepare, **{**SETTINGS, **settings})
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
