"""Groups that learn from one another's steps in stage 3, as far as validation purchases say."""

import numpy as np
import pytest
import torch

from recbole_perpeft.grouping.assignment import losses_of_users
from recbole_perpeft.grouping.posterior import DRAWN_AT, common_share, told
from recbole_perpeft.trainer import user_groups
from tests.training import fit, record, resume

SETTINGS = {"epochs": 4, "global_epochs": 1, "learning_rate": 0.05}
NONE = {"peft_type": "NONE", "peft_config": {}}
IISAN = {"peft_type": "IISAN", "peft_config": {}}
SHARE = 0.3


def grouped(prepare, model="PerPEFTSASRec", **settings):
    """A trainer in stage 3 whose groups share, and windows of several groups."""
    trainer, _ = fit(prepare, stop_after=1, model=model, **{**SETTINGS, **settings})
    windows = list(trainer._train_data.windows(2))[:6]
    assert len({window[0].group for window in windows}) > 1
    trainer.steps.begin_epoch(trainer._train_data)
    trainer.steps.shared = SHARE
    trainer.model.train()
    return trainer, windows


def of_groups(model):
    """What makes each group's rows, as copies."""
    return [[value.detach().clone() for value in own] for own in map(model.item_tower.rows_parameters, range(3))]


@pytest.mark.parametrize("settings", [{}, IISAN, NONE, {"model": "PerPEFTBPR"}, {"averaging_epochs": 2}], ids=str)
def test_other_groups_move_by_a_part_of_what_a_groups_steps_move_it_by(prepare, settings):
    trainer, windows = grouped(prepare, **settings)
    for window in windows:
        before = of_groups(trainer.model)
        trainer.steps.train_window(window)
        after, own = of_groups(trainer.model), window[0].group
        moved = [now - then for now, then in zip(after[own], before[own], strict=True)]
        assert any(step.abs().max() > 1e-3 for step in moved)
        for group in {0, 1, 2} - {own}:
            for now, then, step in zip(after[group], before[group], moved, strict=True):
                torch.testing.assert_close(now, then + SHARE * step)


def test_what_groups_learn_of_likeness_stays_theirs(prepare):
    trainer, windows = grouped(prepare, **IISAN)
    term, own = trainer.model.item_tower.content_term, windows[0][0].group
    before = [[value.detach().clone() for value in term.bend_parameters(group)] for group in range(3)]
    trainer.steps.train_window(windows[0])
    for group in range(3):
        still = all(map(torch.equal, before[group], term.bend_parameters(group)))
        assert still == (group != own)


def test_the_average_counts_what_others_moved(prepare):
    trainer, windows = grouped(prepare, averaging_epochs=2)
    average, trained = trainer.steps.average, trainer.model.trainable_parameters()
    average.horizon = 4
    expected, update = [value.clone().double() for value in average.values], average.update

    def watched():
        update()
        for value, parameter in zip(expected, trained, strict=True):
            value += (parameter.detach().double() - value) / 4

    average.update = watched
    for window in windows:
        trainer.steps.train_window(window)
    for value, other in zip(average.values, expected, strict=True):
        torch.testing.assert_close(value.double(), other, rtol=1e-4, atol=1e-6)


def test_backbone_and_ids_move_as_if_nothing_were_shared(prepare):
    def after_a_window(share):
        trainer, windows = grouped(prepare)
        trainer.steps.shared = share
        torch.manual_seed(1)
        trainer.steps.train_window(windows[0])
        own = trainer.model.item_tower.group_parameters(windows[0][0].group)
        return {**trainer.model.backbone_parameters(), **dict(enumerate(own))}

    alone, shared = after_a_window(0.0), after_a_window(1.0)
    for name, value in alone.items():
        torch.testing.assert_close(value, shared[name], msg=str(name))


@pytest.mark.parametrize(
    "settings",
    [
        {"content_weight": 0, "averaging_epochs": 2},
        {"eval_args": {"mode": "uni10"}},
        {"peft_type": "IISAN", "peft_config": {}, "averaging_epochs": 2},
        {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}},
    ],
    ids=str,
)
def test_groups_share_whatever_makes_their_rows_and_however_is_validated(prepare, settings, caplog):
    caplog.set_level("INFO")
    trainer, result = fit(prepare, **{**SETTINGS, "grouping": "coherence", **settings})
    assert trainer.steps.shared > 0
    assert "of one another's steps" in caplog.text
    assert all(np.isfinite(list(result.values())))


def told_by_hand(losses, held_out):
    chances = np.exp(-losses / DRAWN_AT)
    chances /= chances.sum(axis=1, keepdims=True)
    by_groups, by_any = (np.log((shares * np.exp(-held_out)).sum(axis=1)) for shares in (chances, 1 / losses.shape[1]))
    return (by_groups - by_any).mean()


def test_groups_tell_by_how_much_the_loss_of_a_held_out_purchase_falls():
    rng = np.random.default_rng(0)
    losses, held_out = rng.uniform(0, 9, (50, 3)), rng.uniform(2, 8, (50, 3))
    assert told(*map(torch.from_numpy, (losses, held_out))) == pytest.approx(told_by_hand(losses, held_out))
    assert told(*map(torch.from_numpy, (losses, losses))) > 0.1  # the group that was good stays good
    assert told(*map(torch.from_numpy, (losses, held_out[:, :1].repeat(3, axis=1)))) == pytest.approx(0)


@pytest.mark.parametrize(
    ("by_content", "by_scores", "share"),
    [(0.2, 0.2, 0), (0.2, 0.3, 0), (0.2, 0.05, 0.75), (0.2, 0.19, 0), (0.2, -0.1, 1), (0.0, 0.0, 1), (-0.1, 0.2, 1)],
)
def test_groups_share_what_their_scores_do_not_tell_of_what_likeness_tells(by_content, by_scores, share):
    assert common_share(by_content, by_scores) == pytest.approx(share)


@pytest.mark.parametrize("held_out", [1500, 7])
def test_validation_purchases_say_how_much_is_shared(prepare, monkeypatch, held_out):
    monkeypatch.setattr(user_groups, "HELD_OUT", held_out)
    settings, found = {**SETTINGS, "grouping": "coherence"}, []
    monkeypatch.setattr(user_groups, "common_share", lambda *told: found.append(told) or 0.6)
    trainer, _ = fit(prepare, stop_after=1, **settings)
    model, valid_data = trainer.model, prepare(**settings)[3]
    assert trainer.steps.shared == 0.6
    found.clear()
    trainer.groups.follow(trainer._train_data, valid_data, 1)
    rows = valid_data._dataset.with_lists(valid_data._dataset.inter_feat)
    chosen = slice(None, None, max(1, -(-len(rows) // held_out)))
    users, sums, _ = losses_of_users(model, trainer._train_data)
    of_user = dict(zip(users.tolist(), sums, strict=True))
    so_far = np.stack([of_user[user] for user in rows["user_id"][chosen].tolist()])
    model.eval()
    scores = np.zeros_like(so_far)
    for group in range(3):
        with torch.no_grad(), model.scored_by(group):
            for term in model.score_terms.values():
                term.weight.zero_()
            each = model.full_sort_predict(rows[torch.arange(len(rows))[chosen]]).double()
        each[:, 0] = -torch.inf
        scores[:, group] = -each.log_softmax(dim=1).gather(1, rows["item_id"][chosen][:, None])[:, 0]
    by_content, by_scores = found[0]
    assert by_scores == pytest.approx(told_by_hand(so_far, scores), abs=1e-5)
    of_likeness = model.losses_by_group(rows[torch.arange(len(rows))[chosen]]).double().numpy()
    assert by_content == pytest.approx(told_by_hand(so_far, of_likeness), abs=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"soft_groups": False}, {"regroup_epochs": 3}, {"grouping": "random"}, {"content_term": False}, {"eval_step": 0}],
    ids=str,
)
def test_groups_share_nothing_where_users_do_not_follow_modules(prepare, settings, monkeypatch):
    monkeypatch.setattr(user_groups, "common_share", lambda *told: 0.6)
    trainer, _ = fit(prepare, **{**SETTINGS, "grouping": "coherence", **settings})
    assert trainer.steps.shared == 0


def test_a_killed_run_goes_on_as_it_would_have(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(user_groups, "common_share", lambda *told: 0.4)
    settings = {**SETTINGS, "grouping": "coherence", "averaging_epochs": 2, "eval_step": 2, "epochs": 6}
    whole = record(prepare, tmp_path / "epochs", **settings)
    for epoch in whole.validated[1:-1]:
        again, result = resume(prepare, whole.checkpoint(epoch), **settings)
        assert result == whole.result
        for key, value in again.model.state_dict().items():
            assert torch.equal(value, whole.trainer.model.state_dict()[key]), key


@pytest.mark.parametrize("averaging", [None, 2])
def test_groups_begin_as_much_nearer_as_they_share(prepare, averaging):
    trainer, windows = grouped(prepare, averaging_epochs=averaging)
    for window in windows:
        trainer.steps.train_window(window)
    model, average = trainer.model, trainer.steps.average
    sizes = np.bincount(model.user_groups[1:], minlength=3)
    before = of_groups(model)
    of_average = [value.clone() for value in average.values] if average else []
    trainer.steps.share(0.2)  # less than they shared: they stay where they are
    trainer.steps.begin_epoch(trainer._train_data)
    assert all(map(torch.equal, *map(_flat, (before, of_groups(model)))))
    trainer.steps.share(0.7)
    trainer.steps.begin_epoch(trainer._train_data)
    for same, then in zip(zip(*of_groups(model), strict=True), zip(*before, strict=True), strict=True):
        common = sum(size * value for size, value in zip(sizes / sizes.sum(), then, strict=True))
        for now, own in zip(same, then, strict=True):
            torch.testing.assert_close(now, 0.3 * own + 0.7 * common)
    places = {id(parameter): place for place, parameter in enumerate(model.trainable_parameters())}
    for same in zip(*map(model.item_tower.rows_parameters, range(3)), strict=True) if average else ():
        mine = [places[id(parameter)] for parameter in same]
        common = sum(size * of_average[place] for size, place in zip(sizes / sizes.sum(), mine, strict=True))
        for place in mine:
            torch.testing.assert_close(average.values[place], 0.3 * of_average[place] + 0.7 * common)
    nearer = of_groups(model)
    trainer.steps.begin_epoch(trainer._train_data)  # once for each validation
    assert all(map(torch.equal, *map(_flat, (nearer, of_groups(model)))))


def _flat(groups):
    return [value for own in groups for value in own]
