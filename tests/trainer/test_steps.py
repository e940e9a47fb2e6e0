"""Steps of the optimiser: in portions, and without memory."""

from contextlib import contextmanager

import pytest
import torch

from recbole_perpeft.utils.errors import TrainingError
from tests.matrix import quickly, slow
from tests.training import NO_DROPOUT, PEFTS, move_modules, same


def _first_batch(prepare):
    _, trainer, train_data, *_ = prepare(**NO_DROPOUT, users_per_batch=4)
    return trainer, next(iter(train_data))


def _trained(prepare, **settings):
    """Without validation, which may find other weights of the terms when a score moves by rounding."""
    _, trainer, train_data, *_ = prepare(**settings)
    trainer.fit(train_data, None, verbose=False)
    return trainer


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
    at_once, in_portions = _trained(prepare, **settings), _trained(prepare, encoding_batch_size=4, **settings)
    encoders = [trainer.model.item_tower.encoder for trainer in (at_once, in_portions)]
    assert peft_type != "LORA" or encoders[1].items_encoded > 1.3 * encoders[0].items_encoded
    for name, value in at_once.model.state_dict().items():
        other = in_portions.model.state_dict()[name]
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-6, msg=name)
    start = prepare(**settings)[1].model.item_tower.encoder
    modules = [[p for _, p in encoder.adapter_parameters(2)] for encoder in (start, encoders[1])]
    assert (peft_type == "NONE") == all(torch.equal(*pair) for pair in zip(*modules, strict=True))  # they were trained


def test_more_batches_than_eight_are_encoded_in_portions_unless_a_setting_says_how_many(prepare):
    def encoded(batches, **settings):
        """How many items these batches have, how many were encoded for a step on each, and the weights after it."""
        settings = {"users_per_batch": 1, "num_negatives": 1, "prefixes_per_user": 1, "learner": "sgd", **settings}
        _, trainer, train_data, *_ = prepare(num_groups=1, peft_config=PEFTS["LORA"], **NO_DROPOUT, **settings)
        window, encoder = list(train_data)[:batches], trainer.model.item_tower.encoder
        before = encoder.items_encoded
        trainer.steps.train_window(window)
        items = len(torch.cat([batch.items for batch in window]).unique())
        return items, encoder.items_encoded - before, trainer.model.state_dict()

    few, once, _ = encoded(8)
    assert once == few
    items, twice, weights = encoded(12)
    assert items > few
    assert twice == items + (items - few)
    for settings in ({"encoding_batch_size": 1000}, {"batches_per_encoding": 12}):
        _, once, others = encoded(12, **settings)
        assert once == items
        for name, value in weights.items():
            torch.testing.assert_close(others[name], value, rtol=1e-4, atol=1e-6, msg=name)


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
        trainer.steps.train_window([batch])


def test_another_error_in_a_step_stays_what_it_is(prepare, monkeypatch):
    trainer, batch = _first_batch(prepare)
    monkeypatch.setattr(
        trainer.model.item_tower.encoder, "encode", lambda *args, **named: torch.ones(2) @ torch.ones(3)
    )
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        trainer.steps.train_window([batch])


def test_no_gradient_is_in_memory_after_an_epoch(prepare):
    _, trainer, train_data, *_ = prepare()
    for _ in trainer.steps.train(train_data):
        assert trainer.model.item_tower.id_embedding.weight.grad is not None
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


# -- what is kept between evaluations, and who says that weights have moved ------------------------------------------

KINDS = [{}, {"num_negatives": None}, {"personalised_by": "user_vector"}]
KINDS = [*KINDS, {"model": "PerPEFTLightGCN"}, {"model": "PerPEFTBPR", "loss_type": None}]


@torch.no_grad()
def _scores(trainer, data):
    trainer.model.eval()
    return torch.cat([trainer.model.full_sort_predict(block[0]) for block in data])


def _scores_afresh(trainer, data):
    """Those of a model that has kept nothing."""
    trainer.model.forget()
    return _scores(trainer, data)


@contextmanager
def _averaged(trainer, *_):
    with trainer.steps.averaged():
        yield


@contextmanager
def _stepped(trainer, train_data):
    trainer.model.train()
    trainer.steps.train_window([next(iter(train_data))])
    yield


@contextmanager
def _loaded(trainer, *_):
    state = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.model.load_state_dict({k: v + 0.1 if v.is_floating_point() else v for k, v in state.items()})
    yield
    trainer.model.load_state_dict(state)


MOVES = [(move, settings) for move in (_stepped, _loaded, _averaged) for settings in KINDS]


@pytest.mark.parametrize(("move", "settings"), quickly(MOVES, [*MOVES[:5], MOVES[6], MOVES[10], MOVES[13]]))
def test_no_evaluation_scores_with_what_was_kept_of_other_weights(prepare, move, settings):
    _, trainer, train_data, valid_data, _ = prepare(averaging_epochs=2, learning_rate=0.1, **settings)
    trainer.steps.average.horizon = 10
    for batch in train_data:  # the average is another model
        trainer.steps.train_window([batch])
    before = _scores(trainer, valid_data)
    with move(trainer, train_data):
        found = _scores(trainer, valid_data)
        assert torch.equal(found, _scores_afresh(trainer, valid_data))
        assert not torch.equal(found, before)
    found = _scores(trainer, valid_data)
    assert torch.equal(found, before) == (move is not _stepped)
    assert torch.equal(found, _scores_afresh(trainer, valid_data))


@pytest.mark.parametrize("settings", KINDS)
def test_whoever_moves_weights_says_so(prepare, settings):
    _, trainer, train_data, valid_data, _ = prepare(**settings)
    model, optimizer = trainer.model, torch.optim.SGD(trainer.model.parameters(), lr=10.0)
    before = _scores(trainer, valid_data)
    encoded = model.item_tower.encoder.items_encoded
    model.train()
    assert torch.equal(_scores(trainer, valid_data), before)
    assert model.item_tower.encoder.items_encoded == encoded  # train() and eval() drop nothing
    optimizer.zero_grad()
    model.calculate_loss(next(iter(train_data))).backward()
    optimizer.step()
    model.invalidate()
    found = _scores(trainer, valid_data)
    assert not torch.equal(found, before)
    assert torch.equal(found, _scores_afresh(trainer, valid_data))


def test_the_best_state_comes_back_when_weights_have_moved_and_only_then(prepare):
    _, trainer, _, valid_data, _ = prepare()
    _scores(trainer, valid_data)
    trainer.checkpoint.keep_best()
    best, encoder = trainer.checkpoint.best_state, trainer.model.item_tower.encoder
    encoded = encoder.items_encoded
    trainer.restore_best()
    _scores(trainer, valid_data)
    assert encoder.items_encoded == encoded  # the tables of the validation serve the test
    move_modules(trainer.model)
    assert not same(trainer.model.state_dict(), best)
    trainer.restore_best()
    assert same(trainer.model.state_dict(), best)
