"""What stage 3 makes personal: embeddings, scores and losses against the formulas, group by group and user by user."""

import pytest
import torch

from recbole_perpeft.config.choices import PERSONALISED_BY, USER_PROJECTOR, USER_VECTOR
from recbole_perpeft.utils.errors import SettingError
from tests.matrix import quickly
from tests.training import NO_DROPOUT, fit, gradients, resume, same, scatter_groups

WAYS = pytest.mark.parametrize("way", PERSONALISED_BY)
BY_USER = (USER_PROJECTOR, USER_VECTOR)


@pytest.fixture
def scattered(prepare):
    """``scattered(way, **settings)``: model and data of a run in stage 3, in which all groups and users differ."""

    def make(way, **settings):
        settings = {"peft_config": {"r": 2, "lora_dropout": 0.0}, **NO_DROPOUT, **settings}
        _, trainer, train_data, valid_data, _ = prepare(personalised_by=way, **settings)
        model = trainer.model
        scatter_groups(model, train_data)
        with torch.no_grad():
            for name, parameter in model.item_tower.named_parameters():
                if name.startswith("conditioning."):
                    parameter.copy_(0.5 * torch.randn_like(parameter))
        return model, trainer, train_data, valid_data

    return make


def seen_by(model, way, user):
    """Embeddings of all items as ``user`` sees them, from the formula, ``[n_items, d]``."""
    tower, group = model.item_tower, int(model.user_groups[user])
    module = group if way == "group_peft" else 0
    projector = tower.projectors[group if way in ("group_peft", "group_projector") else 0]
    features = tower.encoder.encode(torch.arange(1, model.n_items), module)
    parameters = dict(tower.conditioning.named_parameters()) if tower.conditioning is not None else {}
    inner = projector[0](features) + (parameters["inner.weight"][user] if way == USER_PROJECTOR else 0)
    content = projector[4](projector[3](projector[2](projector[1](inner))))
    rows = tower.content_weight * content + tower.id_embedding.weight[1:]
    if way == "group_vector":
        rows = rows * (1 + parameters[f"scales.{group}"]) + parameters[f"shifts.{group}"]
    elif way == USER_VECTOR:
        rows = rows * (1 + parameters["scale.weight"][user]) + parameters["shift.weight"][user]
    return torch.cat([torch.zeros(1, tower.embedding_dim), rows])


@WAYS
def test_scores_are_those_of_the_embeddings_that_a_user_sees(scattered, way):
    model, _, _, valid_data = scattered(way)
    model.eval()
    assert model.item_tower.by_user == (way in BY_USER)
    views = set()
    with torch.no_grad():
        for interaction, *_ in valid_data:
            scores = model.full_sort_predict(interaction)
            singly = model.predict(interaction)
            for row, user in enumerate(interaction["user_id"].tolist()):
                table = seen_by(model, way, user)
                views.add(tuple(table[1].tolist()))
                with model.item_tower._using(table):
                    output = model.forward(
                        interaction["item_id_list"][row : row + 1], interaction["item_length"][[row]]
                    )
                torch.testing.assert_close(scores[row], (output @ table.T)[0], rtol=1e-3, atol=1e-4)
                torch.testing.assert_close(singly[row], scores[row, interaction["item_id"][row]], rtol=1e-3, atol=1e-4)
    assert len(views) == (40 if way in BY_USER else 3)


LOSSES = [(way, loss_type) for way in PERSONALISED_BY for loss_type in ("CE", "BPR")]


@pytest.mark.parametrize(
    ("way", "loss_type"), quickly(LOSSES, [cell for cell in LOSSES if cell[1] == "CE"] + [(USER_VECTOR, "BPR")])
)
def test_losses_are_those_of_the_embeddings_that_a_user_sees(scattered, way, loss_type):
    model, _, train_data, _ = scattered(way, loss_type=loss_type, l2_emb=0.0)
    batch = next(iter(train_data))
    items = torch.cat([torch.zeros(1, dtype=torch.long), batch.items])  # catalogue ids of the batch's rows
    losses = []
    for row, owner in enumerate(batch.owner.tolist()):
        table = seen_by(model, way, int(batch.users[owner]))
        with model.item_tower._using(table):
            output = model.forward(items[batch["item_id_list"][[row]]], batch["item_length"][[row]])[0]
        target = items[batch["item_id"][row]]
        if loss_type == "CE":
            rivals = items[~batch.barred[owner]]
            logits = table[torch.cat([target[None], rivals[rivals != target]])] @ output
            losses.append(logits.logsumexp(0) - logits[0])
        else:
            gap = output @ (table[target] - table[items[batch["neg_item_id"][row]]])
            losses.append(-torch.log(1e-10 + torch.sigmoid(gap)))
    torch.testing.assert_close(model.calculate_loss(batch), torch.stack(losses).mean(), rtol=1e-3, atol=1e-5)


@WAYS
def test_a_batch_reaches_what_is_its_groups_own_or_its_users_own_and_the_rest_is_shared(scattered, way):
    model, _, train_data, _ = scattered(way)
    batch = next(iter(train_data))
    reached = gradients(model.train(), model.calculate_loss(batch))
    own = {id(p) for p in model.item_tower.group_parameters(batch.group)}
    others = [p for g in range(3) if g != batch.group for p in model.item_tower.group_parameters(g)]
    assert bool(own) == (way not in BY_USER)
    assert all(parameter.grad is None for parameter in others)
    assert all(parameter.grad is not None for parameter in model.item_tower.group_parameters(batch.group))
    assert any("lora" in name for name in reached)
    if way in BY_USER:
        vectors = {name: gradient for name, gradient in reached.items() if "conditioning" in name}
        assert vectors
        for gradient in vectors.values():
            assert set(gradient.abs().sum(dim=1).nonzero().squeeze(1).tolist()) == set(batch.users.tolist())


@pytest.mark.parametrize("way", quickly(BY_USER, [USER_VECTOR]))
def test_users_see_alike_until_stage_3(prepare, way):
    trainer, _ = fit(prepare, personalised_by=way, epochs=2, global_epochs=2)
    tower = trainer.model.item_tower
    assert not tower.by_user
    assert all(not parameter.any() for parameter in tower.conditioning.parameters())
    trainer, _ = fit(prepare, personalised_by=way, epochs=2, global_epochs=1)
    assert trainer.model.item_tower.by_user


@pytest.mark.parametrize("way", quickly(PERSONALISED_BY[1:], [USER_PROJECTOR]))
def test_a_resumed_run_ends_as_one_that_was_never_interrupted(prepare, recorded, way):
    whole, result, _ = run = recorded(personalised_by=way)
    trainer, again = resume(prepare, run.checkpoint(2), personalised_by=way)
    assert again == result
    assert same(trainer.model.state_dict(), whole.model.state_dict())


def test_what_single_users_views_cannot_do_is_refused(tiny):
    with pytest.raises(SettingError, match="num_negatives: ~ is not possible with personalised_by: user_vector"):
        tiny(personalised_by="user_vector", num_negatives=None)
    with pytest.raises(SettingError, match="regroup_epochs: 2 is not possible with personalised_by: user_vector"):
        tiny(personalised_by="user_vector", regroup_epochs=2)
    with pytest.raises(SettingError, match="personalised_by 'group_vectors'. Did you mean 'group_vector'?"):
        tiny(personalised_by="group_vectors")
