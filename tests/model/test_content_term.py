"""The content term of PerPEFT models' scores, against loops and numpy, and its weight against trying them all."""

import numpy as np
import pytest
import torch

from recbole_perpeft.evaluation.ranked_rows import model_scorer
from recbole_perpeft.model.score_parts import Part, only
from recbole_perpeft.quick_start import load, run
from recbole_perpeft.trainer import term_weights
from recbole_perpeft.trainer.term_weights import find_term_weights
from tests.training import PEFTS, mean_gain, scatter_groups


def cosines(features, histories, decay, bend=()):
    """Whitened cosines of all items to what users bought, by numpy: ``[n, n_items]``; with what a group has learnt."""
    rows = features[1:].double().numpy()
    rows = rows - rows.mean(axis=0)
    covariance = rows.T @ rows / len(rows)
    covariance += 0.01 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    white = np.linalg.solve(np.linalg.cholesky(covariance), rows.T).T
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    if bend:
        up, down = (parameter.detach().double().numpy() for parameter in bend)
        white += white @ up @ down
        white /= np.linalg.norm(white, axis=1, keepdims=True)
    white = np.vstack([np.zeros(white.shape[1]), white])
    found = []
    for history in histories.numpy():
        own = history[history > 0]
        profile = sum(decay ** (len(own) - 1 - place) * white[item] for place, item in enumerate(own))
        found.append(white @ profile / np.linalg.norm(profile))
    return np.array(found)


def block(loader):
    return next(iter(loader))[0]


@pytest.mark.parametrize("peft", [*PEFTS, "IISAN", "NONE"])
def test_scores_are_the_backbones_and_the_weighted_cosines_as_the_users_group_sees_items(prepare, peft):
    _, trainer, train_data, valid_data, _ = prepare(peft_type=peft, peft_config=PEFTS.get(peft, {}))
    model = trainer.model
    scatter_groups(model, train_data)
    model.eval()
    rows, term = block(valid_data), model.item_tower.content_term
    with torch.no_grad():
        alone = model.full_sort_predict(rows)
        term.weight.fill_(3)
        term.decay.fill_(0.5)
        both = model.full_sort_predict(rows)
        pairs = model.predict(rows)
    groups = model.user_groups[rows["user_id"]]
    assert len(groups.unique()) > 1
    for group in groups.unique().tolist():
        features = model.item_tower.encoder.fixed_features()
        if features is None:
            features = model.item_tower.content_features(group)
        own = groups == group
        bend = term.bend(group) if len(term.up) else ()
        assert bool(bend) == (peft in ("IISAN", "NONE"))
        expected = alone[own].numpy() + 3 * cosines(features, rows["item_id_list"][own], 0.5, bend)
        np.testing.assert_allclose(both[own].numpy(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(pairs, both.gather(1, rows["item_id"][:, None]).squeeze(1), rtol=1e-4, atol=1e-5)


def test_a_general_models_history_is_what_was_bought_in_training(prepare):
    _, trainer, train_data, valid_data, _ = prepare(model="PerPEFTBPR", peft_type="NONE", peft_config={}, num_groups=1)
    model = trainer.model.eval()
    rows, term = block(valid_data), model.item_tower.content_term
    with torch.no_grad():
        alone = model.full_sort_predict(rows)
        term.weight.fill_(2)
        both = model.full_sort_predict(rows)
    bought = [torch.from_numpy(train_data.histories[user]) for user in rows["user_id"].tolist()]
    histories = torch.nn.utils.rnn.pad_sequence(bought, batch_first=True)
    expected = alone.numpy() + 2 * cosines(model.item_tower.content_features(0), histories, 1.0)
    np.testing.assert_allclose(both.numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("settings", [{"peft_type": "IISAN", "peft_config": {}}, {"loss_type": "BPR"}], ids=str)
def test_training_does_not_depend_on_it_where_modules_do_not_learn_from_it(prepare, settings):
    losses = []
    for used in (True, False):
        _, trainer, train_data, valid_data, _ = prepare(content_term=used, num_groups=1, epochs=3, **settings)
        trainer.fit(train_data, valid_data, verbose=False, saved=False)
        losses.append(trainer.train_loss_dict)  # the best epoch may be another
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]


def test_its_table_follows_the_module(prepare):
    _, trainer, _, valid_data, _ = prepare(num_groups=1)
    model = trainer.model.eval()
    model.item_tower.content_term.weight.fill_(5)
    rows = block(valid_data)
    with torch.no_grad():
        before = model.full_sort_predict(rows)
        for parameter in model.item_tower.encoder.peft_parameters():
            parameter += torch.randn_like(parameter)
        model.invalidate()
        with only(Part.CONTENT, model):
            after = model.full_sort_predict(rows)
        expected = cosines(model.item_tower.content_features(0), rows["item_id_list"], 1.0)
    assert not torch.allclose(before, after)
    np.testing.assert_allclose(after.numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mode", ["full", "uni7"])
def test_no_other_weight_and_decay_of_those_tried_is_better(prepare, monkeypatch, mode):
    for together in ("FACTORS", "NEAR"):
        monkeypatch.setattr(term_weights, together, (1.0,))
    evaluation = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode}
    _, trainer, _, valid_data, _ = prepare(eval_args=evaluation)
    term = trainer.model.item_tower.content_term
    term.decay.fill_(0.65)
    backbone, content = (spread(trainer, valid_data, part) for part in (Part.BACKBONE, Part.CONTENT))
    find_term_weights(trainer, valid_data)
    best = mean_gain(trainer, valid_data)
    for share in (0, *(0.03 * 10 ** (step / 3) for step in range(7))):
        for decay in (0.65, 0.8, 1.0):
            term.weight.fill_(share * backbone / content)
            term.decay.fill_(decay)
            assert mean_gain(trainer, valid_data) <= best + 1e-6


def spread(trainer, loader, part):
    """How much a part of the scores varies over a row's ranked items, mean of the first batch."""
    with torch.no_grad(), only(part, trainer.model), model_scorer(trainer, loader) as score:
        _, scores, *_ = score(next(iter(loader)))
    return np.mean([row[np.isfinite(row)].std() for row in scores.numpy()])


def test_a_checkpoint_holds_it(tiny):
    result = run(config_dict=tiny().settings())
    _, trainer, _, _, test_data = load(result["checkpoint"])
    term = trainer.model.item_tower.content_term
    assert {"item_tower.content_term.weight", "item_tower.content_term.decay"} <= set(trainer.model.state_dict())
    assert trainer.evaluate(test_data, load_best_model=False) == pytest.approx(result["test_result"])
    term.weight.add_(100)
    assert trainer.evaluate(test_data, load_best_model=False) != pytest.approx(result["test_result"])


def test_without_it_scores_are_the_backbones(prepare):
    _, trainer, _, valid_data, _ = prepare(content_term=False)
    assert trainer.model.item_tower.content_term is None
    assert not any("content_term" in key for key in trainer.model.state_dict())
