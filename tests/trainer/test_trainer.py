"""Stages, seeds, and selection by validation."""

import re

import numpy as np
import pytest
import torch
from recbole.trainer import Trainer

from recbole_perpeft.quick_start import run
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer import trainer as trainer_module
from recbole_perpeft.trainer.steps import Steps
from recbole_perpeft.utils.errors import TrainingError
from tests.matrix import slow
from tests.tiny_data import random_sequences, write_atomic
from tests.tiny_models import save_tiny_clip
from tests.training import COHERENCE, FAST, KMEANS, fit, same, scripted


@pytest.mark.parametrize("settings", [slow({"grouping": "random"}), KMEANS, FAST, slow(COHERENCE)])
def test_three_stages_train_group_and_personalise(prepare, caplog, settings):
    caplog.set_level("INFO")
    _, trainer, train_data, valid_data, test_data = prepare(**settings)
    scripted(trainer, (1, 2, 3, 4))
    trainer.fit(train_data, valid_data, verbose=False)
    result, model = trainer.evaluate(test_data), trainer.model
    assert trainer.stage == "personalised"
    groups = model.user_groups[1:]
    assert set(groups.tolist()) == {0, 1, 2}
    modules = [torch.cat([p.flatten() for p in model.item_tower.group_parameters(group)]) for group in range(3)]
    assert not torch.equal(modules[0], modules[1])
    assert not torch.equal(modules[1], modules[2])
    assert set(result) == {f"{metric}@{k}" for metric in ("ndcg", "recall", "hit") for k in (5, 10)}
    log = caplog.text
    assert "Stage 1 of 3" in log
    assert "Stage 2 of 3" in log
    assert f"group 0: {int((groups == 0).sum())} users" in log
    adapter = sum(p.numel() for _, p in model.item_tower.encoder.adapter_parameters(0))
    assert f"{adapter:,} parameters a group, {3 * adapter:,} in all" in log
    assert f"{100 * adapter / 22513:.3f} % and {300 * adapter / 22513:.3f} % of the foundation model" in log
    assert log.count(f"l2_emb: {model.l2_emb:.3g}\n") == 2  # ~ finds it


def test_the_log_gives_seconds_and_items_per_epoch(prepare, caplog):
    caplog.set_level("INFO")
    _, trainer, train_data, valid_data, _ = prepare(epochs=2, global_epochs=2, batches_per_encoding=1)
    train_data.set_epoch(0)
    expected = sum(len(batch.items) for batch in train_data)
    trainer.fit(train_data, valid_data)
    assert f"items encoded: {expected}]" in "".join(caplog.text.split("\x1b[1;34m")).replace("\x1b[0m", "")


@pytest.mark.parametrize("loss_type", ["CE", slow("BPR"), slow("BCE")])
def test_the_seed_decides_the_numbers(prepare, loss_type):
    settings = {"loss_type": loss_type, "num_groups": 2, "epochs": 2, "global_epochs": 1}
    first, again, other = (fit(prepare, seed=seed, **settings) for seed in (3, 3, 4))
    assert same(first[0].model.state_dict(), again[0].model.state_dict())
    assert first[1] == again[1]
    assert not same(first[0].model.state_dict(), other[0].model.state_dict())


def test_users_move_to_the_module_that_predicts_them_best_before_an_epoch(prepare, caplog, monkeypatch):
    caplog.set_level("INFO")
    settings = {"epochs": 5, "global_epochs": 2, "regroup_epochs": 2, "group_negatives": False, "eval_step": 0}
    _, trainer, train_data, _, _ = prepare(**settings)
    seen, before = [], {}
    train_window = Steps.train_window

    def watched(steps, batches):
        epoch = trainer.epoch
        if epoch not in before:  # as the epoch begins
            before[epoch] = trainer.model.user_groups.clone()
            seen.append(epoch)
        assert {int(trainer.model.user_groups[user]) for b in batches for user in b.users} == {batches[0].group}
        return train_window(steps, batches)

    monkeypatch.setattr(Steps, "train_window", watched)
    trainer.fit(train_data, None, verbose=False)
    assert seen == [0, 1, 2, 3, 4]
    assert torch.equal(before[2], before[3])
    moved = int((before[3] != before[4]).sum())
    assert moved
    assert caplog.text.count("users changed their group") == 1
    assert f"{moved} users changed their group" in caplog.text


@pytest.mark.parametrize(("scores", "best"), [((1, 2, 3, 5, 4), 3), slow((1, 4, 2, 4, 3), 3), ((1, 2, 3, 4, 5), 4)])
def test_the_best_validated_epoch_is_tested(prepare, scores, best):
    _, trainer, train_data, valid_data, test_data = prepare(epochs=5)
    scripted(trainer, scores)
    states = {}

    def keep(epoch, score):
        states[epoch] = {key: value.clone() for key, value in trainer.model.state_dict().items()}

    best_score, _ = trainer.fit(train_data, valid_data, verbose=False, callback_fn=keep)
    assert best_score == max(scores)
    trainer.evaluate(test_data)
    assert same(trainer.model.state_dict(), states[best])
    assert not same(states[best], states[4 if best == 3 else 3])
    assert same(checkpoint_file.read(trainer.saved_model_file)["state_dict"], states[best])


def test_stage_3_starts_from_the_best_of_stage_1_and_keeps_it_if_nothing_beats_it(prepare):
    _, trainer, train_data, valid_data, test_data = prepare(epochs=5, global_epochs=3)
    scripted(trainer, (1, 5, 3, 4, 2))
    states = {}

    def keep(epoch, score):
        states[epoch] = {key: value.clone() for key, value in trainer.model.state_dict().items()}

    assert trainer.fit(train_data, valid_data, verbose=False, callback_fn=keep)[0] == 5
    kept = trainer.model.state_dict()
    assert set(kept["user_groups"][1:].tolist()) == {0, 1, 2}
    for key, value in kept.items():
        if key not in ("user_groups", "regroupings"):
            of_global = states[1][re.sub(r"group_\d", "group_0", re.sub(r"projectors\.\d", "projectors.0", key))]
            assert torch.equal(value, of_global), key


@pytest.mark.parametrize(("terms", "last"), [(True, 5), (False, 4)], ids=["with terms", "without"])
def test_what_a_model_ranks_by_its_terms_before_it_has_learnt_ends_no_stage(prepare, monkeypatch, caplog, terms, last):
    caplog.set_level("INFO")
    settings = {"epochs": 20, "num_groups": 1, "stopping_step": 3, "content_term": terms, "purchase_term": terms}
    _, trainer, train_data, valid_data, _ = prepare(**settings)
    scores = iter([9.0, *[1.0] * 19])
    monkeypatch.setattr(Trainer, "_valid_epoch", lambda *_, **__: (next(scores), {"ndcg@20": 0.0}))
    trainer.fit(train_data, valid_data)
    assert "best eval result in epoch 0" in caplog.text
    assert (
        max(trainer.train_loss_dict) == last
    )  # after twice three validations, or one more than three without a better
    assert trainer.best_epoch == 0


def test_a_resumed_run_ends_where_it_would_have(prepare, monkeypatch):
    settings = {"epochs": 20, "num_groups": 1, "stopping_step": 3}
    monkeypatch.setattr(Trainer, "_valid_epoch", lambda trainer, *_, **__: (-trainer.epoch, {"ndcg@20": 0.0}))

    def interrupt(epoch, score):
        if epoch == 4:  # four validations without a better one, and none that could end it
            raise KeyboardInterrupt

    _, trainer, train_data, valid_data, _ = prepare(**settings)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train_data, valid_data, verbose=False, callback_fn=interrupt)
    _, again, train_data, valid_data, _ = prepare(**settings)
    again.resume_checkpoint(trainer.saved_model_file)
    again.fit(train_data, valid_data, verbose=False)
    assert list(again.train_loss_dict) == [5]


def test_one_group_is_global_peft_for_all_epochs(prepare):
    trainer, _ = fit(prepare, num_groups=1)
    assert trainer.stage == "global"
    assert trainer.train_loss_dict.keys() == {0, 1, 2, 3}


def test_content_without_a_weight_is_encoded_in_no_step_and_read_by_its_term(prepare, caplog):
    caplog.set_level("INFO")
    dataset, trainer, train_data, valid_data, _ = prepare(content_weight=0.0, epochs=2, global_epochs=1)
    trainer.fit(train_data, valid_data, verbose=False)
    encoder = trainer.model.item_tower.encoder
    assert encoder.items_encoded < dataset.item_num  # once ever, for the content term
    with trainer.model.item_tower.catalogue(0):
        assert trainer.model.item_tower.content_term.table.abs().sum() > 0
    assert list(encoder.peft_parameters()) == []


def test_without_validation_the_last_epoch_is_kept(prepare):
    _, trainer, train_data, _, test_data = prepare()
    trainer.fit(train_data, None, verbose=False)
    assert trainer.stage == "personalised"
    assert checkpoint_file.read(trainer.saved_model_file)["epoch"] == 3
    trainer.evaluate(test_data)


def enough_users(tmp_path, changed=None):
    """A data set whose items all occur early, so that ids do not depend on what is held out.

    ``changed``: the held-out purchases of that part are others.
    """
    sequences, items = random_sequences(n_users=60)
    rng = np.random.default_rng(9)
    for bought in sequences.values() if changed else ():
        others = [item for item in items if item not in bought]
        bought[{"validation": -2, "test": -1}[changed]] = others[rng.integers(len(others))]
    place = write_atomic(tmp_path / str(changed), "tiny", sequences, items)
    save_tiny_clip(place / "clip")
    return str(tmp_path / str(changed))


def test_held_out_purchases_never_reach_training_grouping_or_pools(prepare, tmp_path):
    settings = {"stopping_step": 100, **KMEANS}
    outcomes = []
    for changed in (None, "validation", "test"):
        path = enough_users(tmp_path, changed)
        dataset, trainer, train_data, valid_data, _ = prepare(**settings, data_path=path)
        names = {field: dataset.field2id_token[field] for field in ("user_id", "item_id")}
        history = {
            names["user_id"][user]: names["item_id"][items].tolist() for user, items in train_data.histories.items()
        }
        scores = {}
        trainer.fit(train_data, valid_data, verbose=False, callback_fn=scores.__setitem__)
        outcomes.append((history, scores, list(names["item_id"]), trainer))
    (history, scores, ids, trainer), of_validation, of_test = outcomes
    for other_history, _, other_ids, _ in (of_validation, of_test):
        assert history == other_history
        assert ids == other_ids  # else the comparison of weights below means nothing
    _, other_scores, _, other = of_test
    assert scores == other_scores
    assert same(trainer.model.state_dict(), other.model.state_dict())
    _, other_scores, _, other = of_validation
    assert scores != other_scores
    # the first epoch has seen no validation yet: what is trained cannot depend on it
    assert trainer.train_loss_dict[0] == other.train_loss_dict[0]
    assert trainer.train_loss_dict[1] == other.train_loss_dict[1]


def test_the_test_part_is_read_once(tiny, monkeypatch):
    read = []
    original = trainer_module.PerPEFTTrainer.evaluate

    def evaluate(self, eval_data, *args, **kwargs):
        lengths = eval_data._dataset.inter_feat["item_length"]
        read.append(int(lengths.sum()))
        return original(self, eval_data, *args, **kwargs)

    monkeypatch.setattr(trainer_module.PerPEFTTrainer, "evaluate", evaluate)
    run(config_dict=tiny(soft_groups=False).settings(), saved=False)
    assert len(read) == 5
    assert len(set(read[:4])) == 1  # validation, after each of four epochs
    assert read[4] > read[3]  # the test rows are one purchase longer


@pytest.mark.parametrize(("first_bad", "steps_taken"), [(0, 1), (1, 3), (4, 5)])
def test_a_nan_loss_names_the_epoch_and_keeps_what_was_reached(prepare, monkeypatch, first_bad, steps_taken):
    monkeypatch.setattr(trainer_module, "_WINDOWS_BETWEEN_CHECKS", 2)
    _, trainer, train_data, valid_data, _ = prepare(global_epochs=3, batches_per_encoding=1)
    original, steps = trainer.model.calculate_loss, []

    def calculate_loss(batch):
        steps.append(trainer.epoch)
        return original(batch) * (torch.nan if trainer.epoch == 1 and steps.count(1) > first_bad else 1)

    trainer.model.calculate_loss = calculate_loss
    with pytest.raises(TrainingError, match="loss is nan in epoch 1. Lower learning_rate .* is kept in saved"):
        trainer.fit(train_data, valid_data, verbose=False)
    assert steps.count(1) == steps_taken  # of five, with a look after the first, third and last
    assert checkpoint_file.read(trainer.saved_model_file)["epoch"] == 0


@pytest.mark.parametrize("settings", [{}, slow(FAST)])
def test_a_run_in_bf16_learns_as_one_in_fp32(prepare, settings):
    # with seed 2020 the losses of an epoch's batches, which all differ, have the same sum to the last digit
    settings = {"epochs": 3, "global_epochs": 2, "seed": 1, **settings}
    exact, _ = fit(prepare, **settings)
    rough, result = fit(prepare, precision="bf16", **settings)
    assert rough.model.item_tower.encoder.item_features.dtype == torch.bfloat16
    assert all(np.isfinite(score) for score in result.values())
    for epoch, loss in exact.train_loss_dict.items():
        assert rough.train_loss_dict[epoch] != loss
        assert rough.train_loss_dict[epoch] == pytest.approx(loss, rel=0.02)
    dtypes = {value.dtype for value in rough.model.state_dict().values()}
    assert dtypes == {torch.float32, torch.int64}  # all that is trained, and the groups


def test_windows_take_a_step_on_every_batch_and_encode_its_items_once(prepare):
    _, trainer, train_data, *_ = prepare(**FAST | {"num_negatives": 4, "epochs": 1, "global_epochs": 1})
    train_data.set_epoch(0)
    expected = sum(len(set().union(*(b.items.tolist() for b in window))) for window in train_data.windows(2))
    plain = sum(len(batch.items) for batch in train_data)
    trainer.fit(train_data, None, verbose=False)
    assert trainer._items_encoded == expected < plain
    steps = {int(state["step"]) for state in trainer.optimizer.state.values()}
    assert max(steps) == len(train_data) == 5
    adapters = [p for _, p in trainer.model.item_tower.encoder.adapter_parameters(0)]
    assert {int(trainer.optimizer.state[p]["step"]) for p in adapters} == {3}
