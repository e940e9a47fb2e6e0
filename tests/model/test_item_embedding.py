"""Tables of steps over all items, and windows of batches that are encoded once, against direct calculations."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_perpeft.grouping.clustering import random_groups
from tests.matrix import quickly
from tests.training import NO_DROPOUT, PEFTS, gradients, move_modules, scatter_groups


@pytest.fixture
def grouped(prepare):
    """``grouped(**settings)`` gives model, trainer and data of a run over all items whose three groups differ."""

    def make(peft="LORA", **settings):
        settings = {"peft_config": PEFTS[peft], "num_negatives": None, **NO_DROPOUT, **settings}
        _, trainer, train_data, valid_data, _ = prepare(peft_type=peft, **settings)
        scatter_groups(trainer.model, train_data)
        return trainer.model, trainer, train_data, valid_data

    return make


@torch.no_grad()
def features_now(model, group):
    """``f(i; P_g)`` of all items with the weights as they are, without dropout, rounded as they are kept."""
    encoder = model.item_tower.encoder.eval()
    features = F.pad(encoder.encode(torch.arange(1, model.n_items), group), (0, 0, 1, 0))  # row 0 is padding
    encoder.train(model.training)
    return features.half().float()


def all_features(model):
    return [features_now(model, group) for group in range(3)]


def table_by_hand(model, items, group, last, own=None):
    """The table of a step whose own items are ``items``; ``last``: features of all items as last computed.

    ``own``: the items' content, with which to go on where it was drawn by dropout.
    """
    tower, ids = model.item_tower, model.item_tower.id_embedding.weight
    if own is None:
        own = tower.content_weight * tower.projectors[group](tower.encoder.encode(items, group))
    old = tower.content_weight * tower.projectors[group](last)
    x, moved = old[items].detach(), own - old[items]
    centred = x - x.mean(dim=0)
    ridge = 0.03 * centred.pow(2).sum() / tower.embedding_dim
    # least squares with a row for each direction that asks for no slope in it
    augmented = torch.cat([centred, ridge.sqrt() * torch.eye(tower.embedding_dim)])
    target = torch.cat([moved - moved.mean(dim=0), torch.zeros(tower.embedding_dim, tower.embedding_dim)])
    slopes = torch.linalg.pinv(augmented.double()).float() @ target
    rows = [torch.zeros(tower.embedding_dim)]
    for item in range(1, model.n_items):
        carried_on = old[item] + moved.mean(dim=0) + (old[item].detach() - x.mean(dim=0)) @ slopes
        rows.append(ids[item] + (own[items.tolist().index(item)] if item in items else carried_on))
    return torch.stack(rows)


def loss_by_hand(model, batch, last, histories, pool):
    """The batch's softmax loss over what a user did not buy, and his target."""
    tower = model.item_tower
    table = table_by_hand(model, batch.items, batch.group, last)
    with tower._using(table):
        output = model.forward(batch["item_id_list"], batch["item_length"])
    loss = 0
    for vector, user, target in zip(output, batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True):
        candidates = sorted(({*pool} - {*histories[user].tolist()}) | {target})
        scores = table[candidates] @ vector
        loss = loss + torch.logsumexp(scores, dim=0) - scores[candidates.index(target)]
    return loss / len(output) + model.l2_emb * tower.id_embedding.weight.pow(2).sum().sqrt()


@torch.no_grad()
def check_tables(model, items, last, dropout=False):
    """The tables of a step on ``items`` are those by hand; gives how many items were encoded for each group."""
    tower, counts = model.item_tower, []
    for group in range(3):
        before = tower.encoder.items_encoded
        with tower.whole(items, group):
            found = tower.weight
        counts.append(tower.encoder.items_encoded - before)
        own = found[items] - tower.id_embedding.weight[items] if dropout else None
        expected = table_by_hand(model, items, group, last[group], own)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    return counts


@pytest.mark.parametrize("peft", PEFTS)
def test_a_step_over_all_items_takes_the_others_features_from_the_last_evaluation(grouped, peft):
    model, trainer, train_data, valid_data = grouped(peft, l2_emb=0.01)
    batch = next(iter(train_data))
    model.train().calculate_loss(batch)  # from here on the features of evaluations are kept
    move_modules(model, seed=4)
    trainer.evaluate(valid_data, load_best_model=False)
    last = features_now(model, batch.group)
    model.train()
    move_modules(model, seed=6)  # as training steps do
    assert (features_now(model, batch.group) - last).abs().max() > 0.01
    pool = train_data.pools.pools[batch.group].tolist()
    expected, loss = loss_by_hand(model, batch, last, train_data.histories, pool), model.calculate_loss(batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    by_hand, found = gradients(model, expected), gradients(model, loss)
    assert {name for name, gradient in by_hand.items() if gradient.abs().max() > 0} <= set(found)
    for name, gradient in found.items():
        error = (gradient - by_hand[name]).abs().max()
        assert error < 1e-4 * by_hand[name].abs().max() + 1e-8, name
    others = sorted(set(pool) - set(batch.items.tolist()))
    assert others
    assert found["item_tower.id_embedding.weight"][others].abs().amax(dim=1).min() > 1e-4  # they compete


def test_the_others_features_stay_while_training_and_follow_the_next_evaluation(grouped):
    model, trainer, _, valid_data = grouped()
    model.train()
    first = all_features(model)
    kept = [features.clone() for features in first]
    every = model.n_items - 1
    # without any evaluation they are computed at the first use
    assert check_tables(model, torch.tensor([2, 5]), kept) == [2 + every] * 3
    for seed, items in ((6, [2, 5]), (7, [5, 8, 9]), (8, [2])):
        model.train()
        move_modules(model, seed=seed)
        assert check_tables(model, torch.tensor(items), kept) == [len(items)] * 3
    trainer.evaluate(valid_data, load_best_model=False)
    model.train()
    second = all_features(model)
    assert all((new - old).abs().max() > 0.01 for new, old in zip(second, first, strict=True))
    move_modules(model, seed=9)
    assert check_tables(model, torch.tensor([2, 5]), second) == [2] * 3


def test_groups_that_the_last_evaluation_left_out_are_computed_anew_without_dropout(grouped):
    model, trainer, _, valid_data = grouped(peft_config={"r": 2, "lora_dropout": 0.5})
    items, tower = torch.tensor([1]), model.item_tower
    model.train()
    check_tables(model, items, all_features(model), dropout=True)
    trainer.evaluate(valid_data, load_best_model=False)
    model.train()
    move_modules(model, seed=6)
    model.eval()
    with tower.catalogue(0):
        seen = features_now(model, 0)
    model.train()
    move_modules(model, seed=7)
    last = [seen, features_now(model, 1), features_now(model, 2)]
    assert (seen - features_now(model, 0)).abs().max() > 0.01
    assert check_tables(model, items, last, dropout=True) == [1, model.n_items, model.n_items]
    assert all(module.training for name, module in tower.encoder.named_modules() if name.endswith("lora_dropout"))


@pytest.mark.parametrize("kept", [True, False])
def test_right_after_grouping_all_groups_train_on_the_global_features(prepare, kept):
    _, trainer, train_data, _, _ = prepare(num_negatives=None, peft_config=PEFTS["LORA"])
    model, items = trainer.model, torch.tensor([3, 4])
    move_modules(model, seed=6)
    model.train().calculate_loss(next(iter(train_data)))
    model.item_tower.forget()
    expected = features_now(model, 0)
    model.user_representations(train_data.histories)
    if not kept:
        model.item_tower.forget()
    users = np.fromiter(train_data.histories, dtype=np.int64)
    model.personalise(users, random_groups(len(users), 3, 1))
    model.train()
    last = [expected.clone() for _ in range(3)]
    assert check_tables(model, items, last) == [2 + (0 if kept else model.n_items - 1)] * 3
    assert torch.equal(features_now(model, 1), expected)
    move_modules(model, seed=7)
    check_tables(model, torch.tensor([4, 5, 6]), last)  # from now on each group has its own


# -- windows ----------------------------------------------------------------------------------------------------------


def adapters(model, group):
    return dict(model.item_tower.encoder.adapter_parameters(group))


WINDOWS = [(peft, number, portion) for peft in PEFTS for number in (4, None) for portion in (None, 5)]
QUICK_WINDOWS = [("LORA", 4, None), ("LORA", None, 5), ("IA3", 4, 5), ("IA3", None, None)]


@pytest.mark.parametrize(("peft", "num_negatives", "portion"), quickly(WINDOWS, QUICK_WINDOWS))
def test_one_batch_in_a_window_has_the_gradients_of_a_plain_step(grouped, peft, num_negatives, portion):
    model, _, train_data, _ = grouped(peft, num_negatives=num_negatives, l2_emb=0.01)
    model.train()
    for batch in [next(batch for batch in train_data if batch.group == group) for group in range(3)]:
        expected = gradients(model, model.calculate_loss(batch))
        model.zero_grad()
        before = model.item_tower.encoder.items_encoded
        with model.item_tower.window(batch.items, batch.group, portion) as backward_through_encoder:
            model.calculate_loss(batch).backward()
            assert all(parameter.grad is None for parameter in adapters(model, batch.group).values())
            backward_through_encoder()
        assert len(batch.items) > 5
        again = 0 if portion is None else len(batch.items) - portion  # the last portion is kept
        assert model.item_tower.encoder.items_encoded - before == len(batch.items) + again
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert found.keys() == expected.keys()
        assert any(f"group_{batch.group}" in name for name in found)
        for name, gradient in found.items():
            error = (gradient - expected[name]).abs().max()
            assert error < 1e-4 * expected[name].abs().max() + 1e-9, name


@pytest.mark.parametrize("num_negatives", [4, None])
@pytest.mark.parametrize("learning_rate", [0.0, 0.5])
def test_the_module_moves_by_the_sum_of_its_batches_gradients(grouped, num_negatives, learning_rate):
    """``learning_rate`` of all but the PEFT modules: gradients are those after the window's earlier steps on them."""
    model, trainer, train_data, valid_data = grouped(num_negatives=num_negatives, users_per_batch=5)
    trainer.evaluate(valid_data, load_best_model=False)  # fixes the tables of the other items
    model.train()
    window = next(window for window in train_data.windows(2) if len(window) == 2)
    group = window[0].group
    own = adapters(model, group)
    rest = [p for p in model.trainable_parameters() if not any(p is a for a in own.values())]
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    expected = {name: torch.zeros_like(p) for name, p in own.items()}
    union, items = torch.cat([batch.items for batch in window]).unique(), [batch.items for batch in window]
    for batch in window:
        model.zero_grad()
        batch.items = union if batch.whole else batch.items  # a window's items are all fresh, with gradient
        model.calculate_loss(batch).backward()
        for name, parameter in own.items():
            expected[name] += parameter.grad
        with torch.no_grad():
            for parameter in rest:
                if parameter.grad is not None:
                    parameter -= learning_rate * parameter.grad
    moved = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(start[name])
    groups = [{"params": list(own.values()), "lr": 0.1}, {"params": rest}]
    trainer.steps.optimizer = torch.optim.SGD(groups, lr=learning_rate)
    before = model.item_tower.encoder.items_encoded
    for batch, own_items in zip(window, items, strict=True):
        batch.items = own_items
    trainer.steps.train_window(window)
    assert model.item_tower.encoder.items_encoded - before == len(union)
    names = {id(parameter): name for name, parameter in own.items()}
    for name, parameter in model.named_parameters():
        if id(parameter) in names:
            gradient = expected[names[id(parameter)]]
            assert gradient.abs().max() > 1e-4
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6, msg=name)
            torch.testing.assert_close(parameter.detach(), start[name] - 0.1 * gradient, rtol=1e-4, atol=1e-6, msg=name)
        else:
            torch.testing.assert_close(parameter.detach(), moved[name], rtol=1e-4, atol=1e-5, msg=name)


def test_tiny_gradients_come_through_an_encoder_in_half_precision(grouped):
    model, _, train_data, _ = grouped(num_negatives=4)
    model.train()
    batch = next(iter(train_data))
    names = {name for name in gradients(model, model.calculate_loss(batch)) if f"group_{batch.group}" in name}
    exact = gradients(model, model.calculate_loss(batch))
    encoder = model.item_tower.encoder
    encoder.item_features.dtype = torch.float16  # on a CPU it is slow, which is why it cannot be set
    model.zero_grad()
    with model.item_tower.window(batch.items, batch.group) as backward_through_encoder:
        (1e-9 * model.calculate_loss(batch)).backward()
        backward_through_encoder()
    found = {name: 1e9 * p.grad for name, p in model.named_parameters() if name in names}
    flat = [torch.cat([gradient[name].flatten() for name in sorted(names)]) for gradient in (found, exact)]
    assert F.cosine_similarity(*flat, dim=0) > 0.99
    torch.testing.assert_close(flat[0].norm(), flat[1].norm(), rtol=0.02, atol=0)


def test_frozen_features_in_a_window_train_all_the_rest(prepare):
    _, trainer, train_data, _, _ = prepare(peft_type="NONE", peft_config={}, num_negatives=4, **NO_DROPOUT)
    model = trainer.model.train()
    batch = next(iter(train_data))
    expected = gradients(model, model.calculate_loss(batch))
    model.zero_grad()
    with model.item_tower.window(batch.items, batch.group) as backward_through_encoder:
        model.calculate_loss(batch).backward()
        backward_through_encoder()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


# -- some of a window's items are encoded -----------------------------------------------------------------------------


def test_what_is_not_encoded_is_carried_on_from_what_was_last_seen_and_seen_so_from_then_on(grouped):
    model, trainer, train_data, _ = grouped(num_negatives=4)
    tower, batch = model.item_tower, next(iter(train_data))
    tower.have_last(tower.lacking([batch.group]))
    last = features_now(model, batch.group)
    model.train()
    move_modules(model, seed=4)
    for seed in (4, 6):  # from what was computed, and from what was carried on
        move_modules(model, seed=seed)
        encoded, before = batch.items[::2], tower.encoder.items_encoded
        with tower.window(batch.items, batch.group, None, encoded):
            assert tower.encoder.items_encoded - before == len(encoded)
            now = tower.encoder.encode(encoded, tower.module_of(batch.group)).detach()
            expected = carried_by_hand(last, encoded, now)
            torch.testing.assert_close(
                tower.features(batch.items, batch.group), expected[batch.items], rtol=1e-3, atol=1e-4
            )
        last = expected.half().float()


def carried_by_hand(last, rows, now):
    """All rows, by least squares with a row for each direction that asks for no slope in it."""
    x, moved, d = last[rows].double(), (now - last[rows]).double(), last.shape[1]
    centred = x - x.mean(dim=0)
    ridge = 0.03 * centred.pow(2).sum() / d
    design = torch.cat([centred, ridge.sqrt() * torch.eye(d)])
    slopes = torch.linalg.pinv(design) @ torch.cat([moved - moved.mean(dim=0), torch.zeros(d, d)])
    found = (last.double() + moved.mean(dim=0) + (last.double() - x.mean(dim=0)) @ slopes).float()
    found[rows] = now
    return found


def test_modules_that_are_alike_are_asked_once_what_they_see(prepare):
    _, trainer, train_data, *_ = prepare()
    model, tower = trainer.model, trainer.model.item_tower
    users = np.fromiter(train_data.histories, dtype=np.int64)
    model.personalise(users, np.arange(len(users)) % 3)
    tower.forget()
    before = tower.encoder.items_encoded
    assert tower.lacking([0, 2]) == [0, 2]
    tower.have_last([0, 1, 2])
    assert tower.encoder.items_encoded - before == model.n_items - 1
    assert tower.lacking([0, 1, 2]) == []
    move_modules(model, seed=4)
    tower.forget()
    tower.have_last([0, 1, 2])
    assert tower.encoder.items_encoded - before == 4 * (model.n_items - 1)
