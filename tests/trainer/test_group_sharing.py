"""Groups that take a share of one another's steps."""

import copy

import pytest
import torch

from recbole_perpeft.trainer.group_sharing import shared_step
from tests.training import NO_DROPOUT, PEFTS, fit, same, scatter_groups


def _step(prepare, share, peft_type="LORA"):
    """State before and after one step of group 1, of three groups with different modules."""
    settings = {"group_sharing": share, "peft_type": peft_type, "peft_config": PEFTS.get(peft_type, {}), **NO_DROPOUT}
    _, trainer, train_data, *_ = prepare(**settings)
    trainer.stage = "personalised"
    scatter_groups(trainer.model, train_data)
    train_data.set_epoch(0)
    batch = next(batch for batch in train_data if batch.group == 1)
    tower = trainer.model.item_tower
    before = [[p.detach().clone() for p in tower.group_parameters(group)] for group in range(3)]
    torch.manual_seed(0)
    trainer.train_window([batch])
    return before, [[p.detach().clone() for p in tower.group_parameters(group)] for group in range(3)]


@pytest.mark.parametrize("share", [0.25, 1])
@pytest.mark.parametrize("peft_type", ["LORA", "IA3", "IISAN"])
def test_other_groups_move_by_their_share_of_the_step_that_the_group_takes_alone(prepare, share, peft_type):
    alone_before, alone_after = _step(prepare, 0, peft_type)
    before, after = _step(prepare, share, peft_type)
    moved = [new - old for old, new in zip(alone_before[1], alone_after[1], strict=True)]
    assert max(step.abs().max() for step in moved) > 0
    for group, factor in ((0, share), (1, 1), (2, share)):
        for old, new, step in zip(before[group], after[group], moved, strict=True):
            torch.testing.assert_close(new, old + factor * step, atol=1e-6, rtol=1e-5)


def test_without_sharing_no_other_group_moves(prepare):
    before, after = _step(prepare, 0)
    for group in (0, 2):
        assert all(torch.equal(old, new) for old, new in zip(before[group], after[group], strict=True))


def test_groups_that_share_all_steps_end_with_one_module(prepare):
    trainer, _ = fit(prepare, group_sharing=1, grouping="random")
    first, *others = ([p.detach() for p in trainer.model.item_tower.group_parameters(group)] for group in range(3))
    for other in others:
        for one, two in zip(first, other, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_a_step_that_fails_shares_nothing(prepare):
    _, trainer, *_ = prepare(grouping="random")
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(RuntimeError, match="step"), shared_step(trainer.model.item_tower, {0}, 3, 0.5):
        raise RuntimeError("step")
    assert same(before, trainer.model.state_dict())
