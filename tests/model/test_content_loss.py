"""What PEFT modules learn from the content term, against numpy."""

import numpy as np
import pytest
import torch

from recbole_perpeft.model import content_loss
from recbole_perpeft.model.content_term import LEARNT
from recbole_perpeft.model.score_parts import Part, only
from recbole_perpeft.quick_start import load, run
from recbole_perpeft.trainer.term_weights import find_term_weights
from tests.training import NO_DROPOUT, PEFTS, move_modules, record, resume, same, scatter_groups

STILL = {**NO_DROPOUT, "peft_config": PEFTS["LORA"]}


def whitening(features):
    """The mean of a catalogue's features, and a matrix that whitens them but for a ridge of 1 %, by numpy."""
    rows = features[1:].double().numpy()
    covariance = np.cov(rows.T, bias=True)
    covariance += 0.01 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    values, directions = np.linalg.eigh(covariance)
    return rows.mean(axis=0), directions / np.sqrt(values)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def profile(white, history, decay):
    own = [item for item in history if item > 0]
    return unit(sum(decay ** (len(own) - 1 - place) * white[item] for place, item in enumerate(own)))


def scattered(prepare, **settings):
    """A tiny model whose groups' modules have moved since its map was fitted, its training data, and that map."""
    _, trainer, train_data, valid_data, _ = prepare(**{**STILL, **settings})
    model = trainer.model
    fitted = whitening(model.item_tower.content_features(0))
    model.fix_likeness(train_data.purchases)
    model.item_tower.content_term.fix_softness(0.15, 0.7)
    if model.num_groups > 1:
        scatter_groups(model, train_data)
        train_data.set_groups(model.user_groups.numpy(), group_negatives=False)
    else:
        move_modules(model, 1)
    return model, train_data, valid_data, fitted


def white_of(model, group, fitted):
    mean, matrix = fitted
    return unit((model.item_tower.content_features(group).double().numpy() - mean) @ matrix)  # [n_items, d]


@pytest.mark.parametrize(
    "settings",
    [{}, {"correct_sampling": True}, {"num_negatives": None}, {"num_groups": 1, "personalised_by": "user_vector"}],
    ids=["as drawn", "corrected", "whole table", "by user"],
)
def test_its_loss_is_a_softmax_of_cosines_over_the_temperature_among_a_batchs_items(prepare, settings):
    model, train_data, _, fitted = scattered(prepare, **settings)
    seen = set()
    for batch in train_data:
        seen.add(batch.group)
        items, white = batch.items.numpy(), white_of(model, batch.group, fitted)
        of_rows = [batch["item_id_list"], batch["item_id"]]
        if not batch.whole:
            of_rows = [torch.cat([torch.zeros(1, dtype=torch.long), batch.items])[ids] for ids in of_rows]
        histories, targets = (ids.numpy() for ids in of_rows)
        weights = np.zeros(model.n_items)
        if batch.log_weights is not None:
            weights[items] = batch.log_weights.numpy()[items if batch.whole else slice(1, None)]
        losses = []
        for owner, history, target in zip(batch.owner.tolist(), histories, targets, strict=True):
            bought = train_data.histories[int(batch.users[owner])]
            rivals = np.setdiff1d(items, bought)
            cosines = white @ profile(white, history, 0.7) / 0.15
            own = np.exp(cosines[target])
            losses.append(-np.log(own / (own + np.exp(cosines[rivals] + weights[rivals]).sum())))
        assert model._content_loss(batch).item() == pytest.approx(np.mean(losses), rel=1e-3)
        model.eval()  # without any dropout
        whole = model.calculate_loss(batch)
        model.learns_content = False
        assert (whole - model.calculate_loss(batch)).item() == pytest.approx(np.mean(losses), rel=1e-3)
        model.learns_content = True
    assert len(seen) == min(model.num_groups, 3)


def test_its_temperature_and_decay_are_those_that_predict_the_training_purchases_best(prepare):
    _, trainer, train_data, _, _ = prepare(**STILL)
    model, purchases = trainer.model, train_data.purchases
    mean, matrix = whitening(model.item_tower.content_features(0))
    white = unit((model.item_tower.content_features(0).double().numpy() - mean) @ matrix)
    model.fix_likeness(purchases)
    found = {}
    for decay in (0.65, 0.8, 1.0):
        of_rows = [profile(white, history, decay) for history in purchases["item_id_list"].tolist()]
        cosines = np.array(of_rows) @ white[1:].T  # [n, items]
        own = cosines[np.arange(len(cosines)), purchases["item_id"].numpy() - 1]
        for step in range(33):
            temperature = 0.05 * 2 ** (step / 8)
            chances = np.exp(own / temperature) / np.exp(cosines / temperature).sum(axis=1)
            found[temperature, decay] = -np.log(chances).mean()
    temperature, decay = min(found, key=found.get)
    assert model.item_tower.content_term.softness.tolist() == pytest.approx([0.9 * temperature, decay])
    assert len({round(value, 3) for value in found.values()}) > 10


def test_its_gradient_reaches_the_module_of_the_batchs_group_and_no_other_weight(prepare):
    model, train_data, _, _ = scattered(prepare)
    batch = next(iter(train_data))
    model._content_loss(batch).backward()
    encoder = model.item_tower.encoder
    own = {id(parameter) for _, parameter in encoder.adapter_parameters(batch.group)}
    for parameter in model.trainable_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.any())
        assert moved == (id(parameter) in own)


def test_items_are_compared_by_the_map_of_before_anything_moved(prepare):
    model, _, valid_data, fitted = scattered(prepare)
    rows = next(iter(valid_data))[0]
    with torch.no_grad(), only(Part.CONTENT, model.eval()):
        found = model.full_sort_predict(rows).numpy()
    decay = float(model.item_tower.content_term.decay)
    for row, group in enumerate(model.user_groups[rows["user_id"]].tolist()):
        white = white_of(model, group, fitted)
        expected = white[1:] @ profile(white, rows["item_id_list"][row].tolist(), decay)
        np.testing.assert_allclose(found[row, 1:], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("drawn", [4096, 12])
def test_users_are_judged_by_their_purchases_likeness_under_each_module(prepare, monkeypatch, drawn):
    monkeypatch.setattr("recbole_perpeft.model.read_purchases.DRAWN_BY_CONTENT", drawn)
    model, train_data, _, fitted = scattered(prepare)
    prefixes = train_data._prefixes
    losses = model.losses_by_group(prefixes, batch_size=50)
    others = model._drawn_items(True).numpy()
    assert len(set(others)) == min(drawn, model.n_items - 1)
    for group in range(3):
        white = white_of(model, group, fitted)
        for row in range(0, len(prefixes), 17):
            target = int(prefixes["item_id"][row])
            chances = np.exp(white @ profile(white, prefixes["item_id_list"][row].tolist(), 0.7) / 0.15)
            rivals = chances[np.setdiff1d(others, [target])].sum() * (model.n_items - 1) / len(others)
            expected = -np.log(chances[target] / (chances[target] + rivals))
            assert float(losses[row, group]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_state_brings_its_map_or_has_none(prepare):
    model, _, _, _ = scattered(prepare)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    term = prepare(**STILL)[1].model.item_tower.content_term
    assert not term.is_learnt
    other = prepare(**STILL)[1].model
    other.load_state_dict(state)
    assert torch.equal(other.item_tower.content_term.likeness, state["item_tower.content_term.likeness"])
    for name in LEARNT:  # as checkpoints of before
        del state[f"item_tower.content_term.{name}"]
    other.load_state_dict(state)
    assert not other.item_tower.content_term.is_learnt


def test_a_run_ends_with_what_its_checkpoint_gives(tiny):
    result = run(config_dict=tiny(peft_config=PEFTS["LORA"]).settings())
    _, trainer, _, _, test_data = load(result["checkpoint"])
    assert trainer.model.item_tower.content_term.is_learnt
    assert trainer.evaluate(test_data, load_best_model=False) == pytest.approx(result["test_result"])


@pytest.mark.parametrize(
    ("settings", "learns"),
    [
        ({}, True),
        ({"peft_type": "IA3", "peft_config": {}}, True),
        ({"model": "PerPEFTSTAMP"}, True),
        ({"content_term": False}, False),
        ({"eval_step": 0}, False),
        ({"loss_type": "BPR"}, False),
        ({"model": "PerPEFTBERT4Rec"}, False),
        ({"model": "PerPEFTBPR"}, False),
    ],
    ids=str,
)
def test_modules_learn_where_a_batch_has_rivals_and_likeness_can_move(prepare, settings, learns):
    _, trainer, train_data, _, _ = prepare(**settings)
    model = trainer.model
    assert model.learns_content == learns
    trainer._train_epoch(train_data, 0)
    term = model.item_tower.content_term
    assert (term is not None and term.is_learnt) == learns


FIXED = [{"peft_type": "NONE", "peft_config": {}}, {"peft_type": "IISAN", "peft_config": {}}, {"content_weight": 0}]


@pytest.mark.parametrize("settings", FIXED, ids=str)
def test_of_features_that_nothing_moves_groups_learn_which_directions_count(prepare, settings):
    _, trainer, train_data, _, _ = prepare(**settings)
    model, term = trainer.model, trainer.model.item_tower.content_term
    trainer._train_epoch(train_data, 0)
    assert not term.is_learnt  # before users are grouped
    scatter_groups(model, train_data)
    train_data.set_groups(model.user_groups.numpy(), group_negatives=False)
    model.fix_likeness(train_data.purchases)
    for batch in train_data:
        model.zero_grad()
        model._content_loss(batch).backward()
        own = {id(parameter) for parameter in term.bend_parameters(batch.group)}
        moved = {id(value) for value in model.parameters() if value.grad is not None and value.grad.any()}
        assert moved == own
    assert len({tuple(term.up[group].flatten().tolist()) for group in range(3)}) == 3


def test_its_loss_of_bent_vectors_is_a_softmax_of_their_cosines(prepare):
    _, trainer, train_data, _, _ = prepare(**FIXED[0])
    model, term = trainer.model, trainer.model.item_tower.content_term
    scatter_groups(model, train_data)
    train_data.set_groups(model.user_groups.numpy(), group_negatives=False)
    model.fix_likeness(train_data.purchases)
    term.fix_softness(0.15, 0.7)
    features = model.item_tower.encoder.fixed_features()[1:].double().numpy()
    features = features - features.mean(axis=0)
    covariance = np.cov(features.T, bias=True)
    covariance += 0.01 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    plain = unit(np.linalg.solve(np.linalg.cholesky(covariance), features.T).T)
    for batch in train_data:
        up, down = (parameter.detach().double().numpy() for parameter in term.bend_parameters(batch.group))
        white = np.vstack([np.zeros(plain.shape[1]), unit(plain + plain @ up @ down)])[[0, *batch.items.tolist()]]
        losses = []
        for row, target in enumerate(batch["item_id"].tolist()):
            cosines = white @ profile(white, batch["item_id_list"][row].tolist(), 0.7) / 0.15
            rivals = np.flatnonzero(~batch.excluded[row].numpy())
            losses.append(np.log(np.exp(cosines[rivals]).sum()) - cosines[target])
        assert model._content_loss(batch).item() == pytest.approx(np.mean(losses), rel=1e-3)


def test_one_group_and_a_catalogue_whose_tables_would_be_too_large_have_nothing_to_learn(prepare, monkeypatch, caplog):
    caplog.set_level("INFO")
    assert not prepare(**FIXED[0], num_groups=1)[1].model.learns_content
    monkeypatch.setattr(content_loss, "TABLES", 1000)
    _, trainer, *_ = prepare(**FIXED[0])
    assert not trainer.model.learns_content
    assert "Groups do not learn what is alike for them" in caplog.text


def test_a_state_of_before_groups_could_learn_it_scores_as_it_did(prepare):
    _, trainer, train_data, valid_data, _ = prepare(**FIXED[0])
    model, rows = trainer.model.eval(), next(iter(valid_data))[0]
    model.item_tower.content_term.weight.fill_(3)
    old = {key: value.clone() for key, value in model.state_dict().items() if ".up." not in key and ".down." not in key}
    with torch.no_grad():
        expected = model.full_sort_predict(rows)
        model.load_state_dict(old)
        torch.testing.assert_close(model.full_sort_predict(rows), expected)


def test_a_resumed_training_of_groups_likeness_ends_as_it_would_have(prepare, tmp_path):
    settings = {**FIXED[0], "epochs": 5, "global_epochs": 1, "regroup_epochs": 1, "learning_rate": 0.05}
    whole = record(prepare, tmp_path / "epochs", **settings)
    trainer, result = resume(prepare, whole.checkpoint(2), **settings)
    assert result == whole.result
    assert same(trainer.model.state_dict(), whole.trainer.model.state_dict())


def frozen_white(prepare):
    """Unit vectors of all items, whitened, as an encoder without modules sees them."""
    _, trainer, *_ = prepare(**{**STILL, "peft_type": "NONE", "peft_config": {}, "peft_layers": 3})
    features = trainer.model.item_tower.encoder.fixed_features()
    mean, matrix = whitening(features)
    return unit((features.double().numpy() - mean) @ matrix)


@pytest.mark.parametrize("settings", [{}, {"num_groups": 1}], ids=["groups", "one for all"])
def test_items_can_be_compared_as_the_foundation_model_sees_them_without_modules(prepare, settings):
    model, train_data, *_ = scattered(prepare, **settings)
    term, white = model.item_tower.content_term, frozen_white(prepare)
    rows = train_data.purchases[:12]
    of_modules = [compared(model, group, rows) for group in range(model.num_groups)]
    term.by_modules.zero_()
    term.decay.fill_(0.7)
    model.invalidate()
    expected = np.stack([white @ profile(white, history, 0.7) for history in rows["item_id_list"].numpy()])
    for group in range(model.num_groups):
        found = compared(model, group, rows)
        assert np.allclose(found[:, 1:], expected[:, 1:], atol=1e-4)
        assert not np.allclose(found, of_modules[group], atol=0.05)
    losses = model.losses_by_group(rows)  # which tell groups apart go by the modules all the same
    term.by_modules.fill_(1)
    model.invalidate()
    assert torch.equal(model.losses_by_group(rows), losses)


@torch.no_grad()
def compared(model, group, rows):
    """Cosines of all items to what each of ``rows`` has before its target, as the term sees them for ``group``."""
    model.eval()
    with model.item_tower.catalogue(group):
        return model.item_tower.content_term.of_all(rows["item_id_list"]).numpy()


@pytest.mark.parametrize("purchases", [True, False])
@pytest.mark.parametrize("good", ["modules", "foundation model"])
def test_a_validation_says_by_which_features_items_are_compared(prepare, monkeypatch, good, purchases):
    """Features of one of the two are noise; those of the other tell what the validation's users buy."""
    _, trainer, train_data, valid_data, _ = prepare(**STILL, num_groups=1, purchase_term=purchases)
    model = trainer.model
    histories = {int(user): items for user, items in train_data.histories.items()}
    telling = torch.zeros(model.n_items, model.item_tower.encoder.feature_dim)
    rows = valid_data._dataset.inter_feat
    for user, item in zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True):
        telling[[item, *histories[user].tolist()], user % telling.shape[1]] += 1
    telling = telling + 0.01 * torch.randn(telling.shape, generator=torch.Generator().manual_seed(2))
    noise = torch.randn(telling.shape, generator=torch.Generator().manual_seed(3))
    of_modules, frozen = (telling, noise) if good == "modules" else (noise, telling)
    encoder = type(model.item_tower.encoder)
    monkeypatch.setattr(encoder, "encode", lambda self, items, group: of_modules[items])
    monkeypatch.setattr(encoder, "frozen_features", lambda self: frozen)
    model.fix_likeness(train_data.purchases)
    model.eval()
    find_term_weights(trainer, valid_data)
    term = model.item_tower.content_term
    assert term.weight > 0
    assert bool(term.by_modules) == (good == "modules")
