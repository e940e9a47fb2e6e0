"""Steps of the optimiser on batches of several groups at once."""

import pytest
import torch

from recbole_perpeft.trainer.group_sharing import shared_step
from recbole_perpeft.utils.errors import SettingError, TrainingError
from tests.training import NO_DROPOUT, PEFTS, fit, scatter_groups


def _batches(prepare, **settings):
    """A trainer with three groups of different modules, and two batches of different groups and a further one."""
    _, trainer, train_data, *_ = prepare(**settings, **NO_DROPOUT, users_per_batch=4)
    trainer.stage = "personalised"
    scatter_groups(trainer.model, train_data)
    train_data.set_epoch(0)
    batches = list(train_data)
    one = next(batch for batch in batches if batch.group == 0)
    others = [batch for batch in batches if batch.group == 2][:2]
    return trainer, [one, *others]


@pytest.mark.parametrize("peft_type", ["LORA", "IA3", "IISAN"])
def test_the_step_is_on_the_mean_of_the_losses_each_through_its_own_group(prepare, peft_type):
    trainer, batches = _batches(prepare, peft_type=peft_type, peft_config=PEFTS.get(peft_type, {}))
    model = trainer.model
    model.zero_grad()
    loss = sum(model.calculate_loss(batch) for batch in batches) / 3  # encodes without a window: a direct backward pass
    loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer.optimizer = torch.optim.SGD(model.trainable_parameters(), lr=0.1)
    total = trainer.train_together(batches)
    torch.testing.assert_close(total, 3 * loss.detach(), rtol=1e-5, atol=1e-5)
    moved = set()
    for name, parameter in model.named_parameters():
        step = 0.1 * expected[name] if name in expected else torch.zeros_like(parameter)
        torch.testing.assert_close(parameter.detach(), start[name] - step, rtol=1e-4, atol=1e-6, msg=name)
        if not torch.equal(parameter.detach(), start[name]):
            moved.add(id(parameter))
    for group, is_in in ((0, True), (1, False), (2, True)):
        assert any(id(p) in moved for p in model.item_tower.group_parameters(group)) == is_in


@pytest.mark.parametrize("together", [{"batches_per_encoding": 2}, {"batches_per_step": 2}])
@pytest.mark.parametrize("peft_type", ["LORA", "IISAN", "NONE"])
def test_training_in_portions_ends_where_training_at_once_does(prepare, peft_type, together):
    settings = {"peft_type": peft_type, "peft_config": PEFTS.get(peft_type, {}), "learner": "sgd", **together}
    settings |= {"grouping": "random", "epochs": 2, "global_epochs": 1, "learning_rate": 0.05, **NO_DROPOUT}
    at_once, expected = fit(prepare, **settings)
    in_portions, found = fit(prepare, encoding_batch_size=4, **settings)
    assert found == expected
    encoders = [trainer.model.item_tower.encoder for trainer in (at_once, in_portions)]
    assert peft_type != "LORA" or encoders[1].items_encoded > 1.3 * encoders[0].items_encoded
    for name, value in at_once.model.state_dict().items():
        other = in_portions.model.state_dict()[name]
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-6, msg=name)
    start = prepare(**settings)[1].model.item_tower.encoder
    modules = [[p for _, p in encoder.adapter_parameters(2)] for encoder in (start, encoders[1])]
    assert (peft_type == "NONE") == all(torch.equal(*pair) for pair in zip(*modules, strict=True))  # they were trained


def test_an_epoch_takes_a_step_on_so_many_batches_whatever_their_groups(prepare):
    trainer, _ = fit(prepare, batches_per_step=2, users_per_batch=4, grouping="random", epochs=2, global_epochs=1)
    _, _, train_data, *_ = prepare(batches_per_step=2, users_per_batch=4)
    portions = list(train_data.portions(2))
    assert [len(some) for some in portions[:-1]] == [2] * (len(portions) - 1)
    train_data.set_groups(trainer.model.user_groups.numpy(), False)
    train_data.set_epoch(1)
    portions = list(train_data.portions(2))
    assert any(len({batch.group for batch in some}) > 1 for some in portions)
    assert max(int(state["step"]) for state in trainer.optimizer.state.values()) == len(portions)


def test_groups_that_step_together_share_what_each_did_itself(prepare):
    trainer, _ = _batches(prepare)
    tower = trainer.model.item_tower
    before = [[p.detach().clone() for p in tower.group_parameters(group)] for group in range(3)]
    with shared_step(tower, {0, 2}, 3, 0.5), torch.no_grad():
        for group, by in ((0, 1.0), (2, 10.0)):
            for parameter in tower.group_parameters(group):
                parameter.add_(by)
    for group, by in enumerate((1 + 5, 0.5 + 5, 10 + 0.5)):
        for old, new in zip(before[group], tower.group_parameters(group), strict=True):
            torch.testing.assert_close(new.detach(), old + by, rtol=1e-5, atol=1e-5)


def test_a_step_on_several_batches_excludes_an_encoding_for_several_steps(prepare):
    with pytest.raises(SettingError, match="batches_per_step: 2 is not possible with batches_per_encoding: 3"):
        prepare(batches_per_step=2, batches_per_encoding=3)


def _of_gpu():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def _of_cpu():
    torch.empty(10**15)  # more than any machine has


@pytest.mark.parametrize("runs_out", [_of_gpu, _of_cpu])
@pytest.mark.parametrize("way", ["train_window", "train_together"])
def test_a_step_without_memory_names_what_makes_it_smaller(prepare, monkeypatch, runs_out, way):
    trainer, batches = _batches(prepare)
    monkeypatch.setattr(trainer.model.item_tower.encoder, "encode", lambda *args, **named: runs_out())
    items = len(batches[0].items)
    message = (
        rf"The {items} items .* do not fit into memory. Set encoding_batch_size \(now ~\) to fewer, or lower users"
    )
    with pytest.raises(TrainingError, match=message):
        getattr(trainer, way)(batches[:1])


def test_another_error_in_a_step_stays_what_it_is(prepare, monkeypatch):
    trainer, batches = _batches(prepare)
    monkeypatch.setattr(
        trainer.model.item_tower.encoder, "encode", lambda *args, **named: torch.ones(2) @ torch.ones(3)
    )
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        trainer.train_window(batches[:1])
