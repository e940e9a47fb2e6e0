"""Tables of steps over all items, and windows of batches that are encoded once, against direct calculations."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_perpeft.grouping import group_users
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
    encoder = model.item_embedding.encoder.eval()
    features = F.pad(encoder.encode(torch.arange(1, model.n_items), group), (0, 0, 1, 0))  # row 0 is padding
    encoder.train(model.training)
    return features.half().float()


def all_features(model):
    return [features_now(model, group) for group in range(3)]


def table_by_hand(model, items, group, last):
    """The table of a step whose own items are ``items``; ``last``: features of all items as last computed."""
    tower = model.item_embedding
    project, ids = tower.projectors[group], tower.id_embedding.weight
    own = tower.content_weight * project(tower.encoder.encode(items, group))
    old = tower.content_weight * project(last)
    rows = [torch.zeros(tower.embedding_dim)]
    for item in range(1, model.n_items):
        rows.append(ids[item] + (own[items.tolist().index(item)] if item in items else old[item]))
    return torch.stack(rows)


def loss_by_hand(model, batch, last, histories, pool):
    """The batch's softmax loss over what a user did not buy, and his target."""
    tower = model.item_embedding
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
def check_tables(model, items, last):
    """The tables of steps on ``items`` are those by hand, for every group."""
    for group in range(3):
        with model.item_embedding.whole(items, group):
            found = model.item_embedding.weight
        torch.testing.assert_close(found, table_by_hand(model, items, group, last[group]), rtol=1e-5, atol=1e-5)


def encoded(model):
    return model.item_embedding.encoder.items_encoded


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
    expected = loss_by_hand(model, batch, last, train_data.histories, pool)
    torch.testing.assert_close(model.calculate_loss(batch), expected, rtol=1e-5, atol=0)
    by_hand, found = gradients(model, expected), gradients(model, model.calculate_loss(batch))
    assert {name for name, gradient in by_hand.items() if gradient.abs().max() > 0} <= set(found)
    for name, gradient in found.items():
        error = (gradient - by_hand[name]).abs().max()
        assert error < 1e-4 * by_hand[name].abs().max() + 1e-8, name
    others = sorted(set(pool) - set(batch.items.tolist()))
    assert others
    assert found["item_embedding.id_embedding.weight"][others].abs().amax(dim=1).min() > 1e-4  # they compete


def test_the_others_features_stay_while_training_and_follow_the_next_evaluation(grouped):
    model, trainer, _, valid_data = grouped()
    items = torch.tensor([2, 5])
    model.train()
    first = all_features(model)
    check_tables(model, items, first)  # without any evaluation they are computed at the first use
    for seed in (6, 7):
        model.train()
        move_modules(model, seed=seed)
        check_tables(model, items, first)
    before = encoded(model)
    with model.item_embedding.whole(items, 1):
        assert encoded(model) - before == len(items)
    trainer.evaluate(valid_data, load_best_model=False)
    model.train()
    second = all_features(model)
    assert all((new - old).abs().max() > 0.01 for new, old in zip(second, first, strict=True))
    move_modules(model, seed=8)
    check_tables(model, items, second)


def test_groups_that_the_last_evaluation_left_out_are_computed_anew_without_dropout(grouped):
    model, trainer, _, valid_data = grouped(peft_config={"r": 2, "lora_dropout": 0.5})
    items, tower = torch.tensor([1]), model.item_embedding
    model.train()
    for group in range(3):
        with torch.no_grad(), tower.whole(items, group):
            pass
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
    for group in range(3):
        before = encoded(model)
        with torch.no_grad(), tower.whole(items, group):
            assert encoded(model) - before == len(items) + (group > 0) * (model.n_items - 1)
            adapter_dropouts = [m for name, m in tower.encoder.named_modules() if "lora_dropout" in name]
            assert all(module.training for module in adapter_dropouts)
    model.item_embedding.encoder.eval()  # only now, for the rows of the items themselves
    check_tables(model, items, last)


@pytest.mark.parametrize("kept", [True, False])
def test_right_after_grouping_all_groups_train_on_the_global_features(prepare, kept):
    _, trainer, train_data, _, _ = prepare(num_negatives=None, peft_config=PEFTS["LORA"])
    model, items = trainer.model, torch.tensor([3, 4])
    move_modules(model, seed=6)
    model.train().calculate_loss(next(iter(train_data)))
    model.item_embedding.forget()
    expected = features_now(model, 0)
    representations = model.user_representations(train_data.histories)
    if not kept:
        model.item_embedding.forget()
    users = np.fromiter(train_data.histories, dtype=np.int64)
    model.personalise(users, group_users(representations, "random", 3, 1))
    model.train()
    before = encoded(model)
    with torch.no_grad():
        for group in range(3):
            with model.item_embedding.whole(items, group):
                pass
    assert encoded(model) - before == 3 * len(items) + (0 if kept else 3 * (model.n_items - 1))
    check_tables(model, items, [expected] * 3)
    assert torch.equal(features_now(model, 1), expected)


# -- windows ----------------------------------------------------------------------------------------------------------


def adapters(model, group):
    return dict(model.item_embedding.encoder.adapter_parameters(group))


@pytest.mark.parametrize("num_negatives", [4, None])
@pytest.mark.parametrize("peft", PEFTS)
def test_one_batch_in_a_window_has_the_gradients_of_a_plain_step(grouped, peft, num_negatives):
    model, _, train_data, _ = grouped(peft, num_negatives=num_negatives, l2_emb=0.01)
    model.train()
    for batch in [next(batch for batch in train_data if batch.group == group) for group in range(3)]:
        expected = gradients(model, model.calculate_loss(batch))
        model.zero_grad()
        with model.item_embedding.window(batch.items, batch.group) as backward_through_encoder:
            model.calculate_loss(batch).backward()
            assert all(parameter.grad is None for parameter in adapters(model, batch.group).values())
            backward_through_encoder()
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
    for batch in window:
        model.zero_grad()
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
    trainer.optimizer = torch.optim.SGD([{"params": list(own.values()), "lr": 0.1}, {"params": rest}], lr=learning_rate)
    before = model.item_embedding.encoder.items_encoded
    trainer.train_window(window)
    union = set(window[0].items.tolist()) | set(window[1].items.tolist())
    assert model.item_embedding.encoder.items_encoded - before == len(union)
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
    encoder = model.item_embedding.encoder
    encoder.runner.dtype = torch.float16  # on a CPU it is slow, which is why it cannot be set
    model.zero_grad()
    with model.item_embedding.window(batch.items, batch.group) as backward_through_encoder:
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
    with model.item_embedding.window(batch.items, batch.group) as backward_through_encoder:
        model.calculate_loss(batch).backward()
        backward_through_encoder()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
