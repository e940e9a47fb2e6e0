"""Learning rates of what is trained."""

import pytest
import torch

from recbole_perpeft.trainer.optimizer import parameter_groups


@pytest.mark.parametrize("learner", ["adamw", "adam", "sgd"])
def test_peft_modules_stand_still_at_a_learning_rate_of_zero_and_the_rest_moves(prepare, learner):
    _, trainer, train_data, valid_data, _ = prepare(
        learner=learner, peft_learning_rate=0.0, weight_decay=0.0, learning_rate=0.01, num_groups=1, epochs=2
    )
    encoder = trainer.model.item_tower.encoder
    peft = [p.detach().clone() for p in encoder.peft_parameters()]
    projector = [p.detach().clone() for p in trainer.model.item_tower.projectors.parameters()]
    trainer.fit(train_data, valid_data, verbose=False)
    assert all(torch.equal(old, new) for old, new in zip(peft, encoder.peft_parameters(), strict=True))
    moved = zip(projector, trainer.model.item_tower.projectors.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)


def test_everything_that_is_trained_is_held_once(prepare):
    _, trainer, *_ = prepare()
    groups = parameter_groups(trainer.model, 0.1, 0.01)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in trainer.model.trainable_parameters())
    assert [group.get("lr") for group in groups] == [None, 0.01]


@pytest.mark.parametrize(("together", "times"), [(None, 8), (1, 1), (4, 4), (8, 8), (18, 12), (32, 16)])
def test_modules_learn_faster_the_fewer_steps_they_take(prepare, together, times):
    for given, expected in ((None, 0.001 * times), (0.5, 0.5)):
        _, trainer, train_data, *_ = prepare(
            learning_rate=0.001, batches_per_encoding=together, peft_learning_rate=given
        )
        trainer._train_epoch(train_data, 0)
        assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([0.001, expected])


def test_without_modules_there_is_one_learning_rate(prepare):
    _, trainer, *_ = prepare(peft_type="NONE", num_groups=1)
    assert len(parameter_groups(trainer.model, 0.1, 0.01)) == 1
