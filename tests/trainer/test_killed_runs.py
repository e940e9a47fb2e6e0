"""A run that was killed at any point resumes to the numbers of one that never was."""

import pytest

from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer.stage import Stage
from tests.matrix import slow
from tests.training import COHERENCE, FAST, KMEANS, Killed, allow_passes, record, resume, same


@pytest.mark.parametrize(
    ("epoch", "settings"),
    [
        slow(0, {}),
        (1, {}),
        slow(2, {}),
        slow(3, {}),
        slow(1, KMEANS),
        slow(2, KMEANS),
        slow(0, FAST),
        slow(1, FAST),
        (2, FAST | KMEANS),
        slow(1, COHERENCE),
        slow(2, {"regroup_epochs": 1, "group_negatives": False}),
        slow(1, {"averaging_epochs": 2} | FAST),
        (2, {"averaging_epochs": 2, "regroup_epochs": 1, "group_negatives": False}),
    ],
)
def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(prepare, recorded, epoch, settings):
    whole, result, _ = run = recorded(**settings)
    _, trainer, train_data, valid_data, test_data = prepare(**settings)
    trainer.resume_checkpoint(run.checkpoint(epoch))
    assert trainer.start_epoch == epoch + 1
    score = trainer.fit(train_data, valid_data, verbose=False)
    assert score == (whole.best_valid_score, whole.best_valid_result)
    assert trainer.evaluate(test_data) == result
    assert same(trainer.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("settings", [{}, slow(FAST)])
def test_a_run_killed_after_grouping_resumes_in_the_personalised_stage(prepare, recorded, monkeypatch, settings):
    whole, result, _ = recorded(**settings)
    _, trainer, train_data, valid_data, _ = prepare(**settings)
    fit_stage = trainer._fit_stage

    def killed_before_stage_3(*arguments):
        if trainer.stage is Stage.PERSONALISED:
            raise Killed
        fit_stage(*arguments)

    monkeypatch.setattr(trainer, "_fit_stage", killed_before_stage_3)
    with pytest.raises(Killed):
        trainer.fit(train_data, valid_data, verbose=False)
    state = checkpoint_file.read(trainer.saved_model_file)
    assert (state["stage"], state["epoch"]) == ("personalised", 1)
    again, again_result = resume(prepare, trainer.saved_model_file, **settings)
    assert again_result == result
    assert same(again.model.state_dict(), whole.model.state_dict())


def test_a_stage_that_stopped_early_stays_stopped_when_resumed(prepare, recorded):
    settings = {"epochs": 8, "global_epochs": 6, "stopping_step": 0, "learning_rate": 0.3}
    whole = recorded(**settings)
    last_global = max(epoch for epoch in whole.validated if epoch < 6)
    assert last_global < 5  # or this shows nothing
    assert resume(prepare, whole.checkpoint(last_global), **settings)[1] == whole.result


@pytest.mark.parametrize("settings", [{}, slow(FAST), slow({"averaging_epochs": 2})])
def test_a_run_killed_without_validation_resumes_to_the_same_end(prepare, settings):
    _, whole, train_data, *_ = prepare(**settings)
    whole.fit(train_data, None, verbose=False)
    _, killed, train_data, *_ = prepare(**settings)
    original = killed._train_epoch

    def train_epoch(train_data, epoch, *args, **kwargs):
        if epoch == 1:
            raise Killed
        return original(train_data, epoch, *args, **kwargs)

    killed._train_epoch = train_epoch
    with pytest.raises(Killed):
        killed.fit(train_data, None, verbose=False)
    _, trainer, train_data, *_ = prepare(**settings)
    trainer.resume_checkpoint(killed.saved_model_file)
    assert trainer.start_epoch == 1
    trainer.fit(train_data, None, verbose=False)
    assert same(trainer.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {"averaging_epochs": 2},
        slow({"eval_step": 2, "epochs": 6}),
        slow({"averaging_epochs": 2, "num_negatives": None}),
        slow({"averaging_epochs": 2, "regroup_epochs": 1, "eval_step": 2, "epochs": 6, "group_negatives": False}),
        slow({"averaging_epochs": 2, "personalised_by": "group_vector"}),
    ],
)
def test_a_run_that_encodes_some_of_the_items_resumes_exactly_where_it_was_killed(
    prepare, tmp_path, monkeypatch, settings
):
    allow_passes(monkeypatch, 0.6)  # three groups would take nearly three
    whole = record(prepare, tmp_path / "whole", **settings)
    assert 0.5 * 29 < whole.trainer._items_encoded <= 0.6 * 29 + 2
    assert whole.validated[-2] > 1  # two are of stage 3
    for epoch in whole.validated[:-1]:
        again, result = resume(prepare, whole.checkpoint(epoch), **settings)
        assert result == whole.result
        assert same(again.model.state_dict(), whole.trainer.model.state_dict())


def test_a_run_that_encodes_some_of_the_items_resumes_exactly_without_validation(prepare, monkeypatch):
    allow_passes(monkeypatch, 0.6)
    test_a_run_killed_without_validation_resumes_to_the_same_end(prepare, {"averaging_epochs": 2})
