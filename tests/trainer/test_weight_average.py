"""The moving average of the weights."""

import pytest
import torch
from torch import nn

from recbole_perpeft.trainer.weight_average import WeightAverage
from tests.matrix import slow
from tests.training import fit, move_modules

AVERAGED = {"averaging_epochs": 2, "users_per_batch": 7}


@pytest.mark.parametrize("forgets_start", [True, False])
def test_each_step_replaces_its_share_of_the_average_the_first_ones_more_if_the_start_is_to_be_forgotten(forgets_start):
    values = [2.0, 1.0, 5.0, 3.0, -4.0]
    parameter = nn.Parameter(torch.full((3,), 7.0))
    average = WeightAverage([parameter], forgets_start)
    average.horizon = 1.25 * 4 / 3  # reached where 9 / (9 + steps) is below 0.6, which is after six steps
    expected = 7.0
    for step, value in enumerate(values * 2, start=1):
        parameter.data.fill_(value)
        average.update()
        share = 9 / (9 + step) if forgets_start and step <= 6 else 0.6
        expected += share * (value - expected)
        torch.testing.assert_close(average.values[0], torch.full((3,), expected))


def test_what_stands_still_is_taken_in_too():
    """Of two parameters one moves at some steps only, as those of a group do that is in few batches."""
    always, sometimes = (nn.Parameter(torch.tensor([start])) for start in (7.0, 3.0))
    average = WeightAverage([always, sometimes], forgets_start=False)
    average.horizon = 4
    expected = [7.0, 3.0]
    for step in range(12):
        always.grad, sometimes.grad = torch.ones(1), torch.ones(1) if step % 5 == 2 else None
        average.before_step()
        for parameter in (always, sometimes):
            if parameter.grad is not None:
                parameter.data -= step * parameter.grad
        average.update()
        now = always.item(), sometimes.item()
        expected = [value + (new - value) / 4 for value, new in zip(expected, now, strict=True)]
        if step in (7, 11):
            for value, other in zip(average.values, expected, strict=True):
                assert value.item() == pytest.approx(other)


def test_the_average_is_in_use_for_a_while_and_an_error_ends_that():
    parameter = nn.Parameter(torch.ones(2))
    average = WeightAverage([parameter], True)
    parameter.data.fill_(9)

    def fails():
        with average.in_use():
            assert parameter.tolist() == [1, 1]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert parameter.tolist() == [9, 9]


def test_what_is_kept_is_the_average_of_the_weights_after_each_step(prepare):
    settings = {"num_groups": 1, "epochs": 3, "eval_step": 0}
    _, trainer, train_data, *_ = prepare(**AVERAGED, **settings)
    parameters = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    expected = {name: p.detach().clone().double() for name, p in parameters.items()}
    steps, update = 0, trainer.steps.average.update

    def watched():
        nonlocal steps
        update()
        steps += 1
        share = max(1 / (2 * len(train_data)), 9 / (9 + steps))
        for name, p in parameters.items():
            expected[name] += share * (p.detach().double() - expected[name])

    trainer.steps.average.update = watched
    trainer.fit(train_data, None, verbose=False)
    assert steps == 3 * len(train_data) > 9
    for name, p in parameters.items():
        torch.testing.assert_close(p.detach().double(), expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("settings", [{}, slow({"regroup_epochs": 1, "group_negatives": False})])
def test_the_validated_model_is_the_one_that_is_kept(prepare, settings):
    _, trainer, train_data, valid_data, _ = prepare(**AVERAGED, **settings)
    score, result = trainer.fit(train_data, valid_data, verbose=False)
    assert trainer.evaluate(valid_data) == result
    plain, _ = fit(prepare, **settings, users_per_batch=7)
    kept, other = (fitted.model.item_tower.id_embedding.weight for fitted in (trainer, plain))
    assert not torch.equal(kept, other)


def test_after_a_validation_training_goes_on_from_the_weights_as_they_were(prepare):
    _, trainer, train_data, valid_data, _ = prepare(**AVERAGED)
    trainer._train_epoch(train_data, 0)
    move_modules(trainer.model)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer._valid_epoch(valid_data)
    assert all(torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())
    tower = trainer.model.item_tower
    tower.eval()
    with tower.catalogue(1):  # no table of the average is left
        rows = tower.weight[1:5].clone()
    torch.testing.assert_close(rows, tower.embed(torch.arange(1, 5), 1).detach(), rtol=1e-4, atol=1e-5)
