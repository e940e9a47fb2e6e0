"""Learning rates of what is trained."""

import pytest
import torch

from recbole_perpeft.trainer.optimizer import parameter_groups
from tests.training import same


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


def test_without_modules_there_is_one_learning_rate(prepare):
    _, trainer, *_ = prepare(peft_type="NONE", num_groups=1)
    assert len(parameter_groups(trainer.model, 0.1, 0.01)) == 1


@pytest.mark.parametrize("num_groups", [1, 2])
@pytest.mark.parametrize("learner", ["adamw", "sgd"])
def test_after_global_epochs_all_is_learned_at_a_share_of_the_rates(prepare, num_groups, learner):
    _, trainer, train_data, valid_data, _ = prepare(
        num_groups=num_groups, learner=learner, learning_rate=0.01, peft_learning_rate=0.001, learning_rate_decay=0.1,
        epochs=5, global_epochs=2, grouping="random",
    )  # fmt: skip
    step, rates = trainer._step, {}

    def watched(groups):
        step(groups)
        rates.setdefault(trainer._epoch, set()).add(tuple(group["lr"] for group in trainer.optimizer.param_groups))

    trainer._step = watched
    trainer.fit(train_data, valid_data, verbose=False)
    early, late = {(0.01, 0.001)}, {(0.1 * 0.01, 0.1 * 0.001)}
    assert rates == {0: early, 1: early, 2: late, 3: late, 4: late}


def test_nothing_moves_after_global_epochs_if_rates_decay_to_zero(prepare):
    states = []
    for epochs in (2, 4):
        _, trainer, train_data, _, _ = prepare(num_groups=1, learning_rate_decay=0, global_epochs=2, epochs=epochs)
        trainer.fit(train_data, verbose=False)
        states.append(trainer.model.state_dict())
    assert same(*states)
