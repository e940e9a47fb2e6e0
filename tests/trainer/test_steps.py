"""Steps of the optimiser: in portions, and without memory."""

import pytest
import torch

from recbole_perpeft.utils.errors import TrainingError
from tests.matrix import slow
from tests.training import NO_DROPOUT, PEFTS, fit


def _first_batch(prepare):
    _, trainer, train_data, *_ = prepare(**NO_DROPOUT, users_per_batch=4)
    return trainer, next(iter(train_data))


@pytest.mark.parametrize("peft_type", ["LORA", slow("IISAN"), slow("NONE")])
def test_training_in_portions_ends_where_training_at_once_does(prepare, peft_type):
    settings = {"peft_type": peft_type, "peft_config": PEFTS.get(peft_type, {}), "learner": "sgd"}
    settings |= {
        "batches_per_encoding": 2,
        "grouping": "random",
        "epochs": 2,
        "global_epochs": 1,
        "learning_rate": 0.05,
        **NO_DROPOUT,
    }
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


def _of_gpu():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def _of_cpu():
    torch.empty(10**15)  # more than any machine has


@pytest.mark.parametrize("runs_out", [_of_gpu, _of_cpu])
def test_a_step_without_memory_names_what_makes_it_smaller(prepare, monkeypatch, runs_out):
    trainer, batch = _first_batch(prepare)
    monkeypatch.setattr(trainer.model.item_tower.encoder, "encode", lambda *args, **named: runs_out())
    items = len(batch.items)
    message = (
        rf"The {items} items .* do not fit into memory. Set encoding_batch_size \(now ~\) to fewer, or lower users"
    )
    with pytest.raises(TrainingError, match=message):
        trainer.train_window([batch])


def test_another_error_in_a_step_stays_what_it_is(prepare, monkeypatch):
    trainer, batch = _first_batch(prepare)
    monkeypatch.setattr(
        trainer.model.item_tower.encoder, "encode", lambda *args, **named: torch.ones(2) @ torch.ones(3)
    )
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        trainer.train_window([batch])
