"""Groups of users who come later: by the rule by which the others are in theirs."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from benchmarks.new_users import chosen_users, hold_out
from recbole_perpeft.data.preparation import create_dataset, data_preparation
from recbole_perpeft.grouping.assignment import best_groups
from recbole_perpeft.quick_start import load
from tests.matrix import slow
from tests.training import KMEANS, fit, move_modules, same, scatter_groups

SMALL = {"embedding_size": 16, "learning_rate": 0.05, "group_negatives": False}


def histories_of(train_data):
    """Users who train and their purchases, padded."""
    histories = train_data.histories
    padded = torch.zeros(len(histories), 8, dtype=torch.long)
    for row, items in enumerate(histories.values()):
        padded[row, : len(items)] = torch.from_numpy(items.copy())
    return torch.tensor(list(histories)), padded


@pytest.mark.parametrize(
    ("model", "grouping"),
    [
        slow("PerPEFTSASRec", "kmeans"),
        ("PerPEFTSASRec", "coherence"),
        ("PerPEFTSASRec", "likeness"),
        slow("PerPEFTBPR", "kmeans"),
        ("PerPEFTLightGCN", "kmeans"),
    ],
)
def test_training_users_come_back_to_their_groups_after_stage_3_and_from_a_checkpoint(prepare, model, grouping):
    trainer, _ = fit(prepare, model=model, grouping=grouping, epochs=3, **SMALL)
    _, again, train_data, _, _ = load(trainer.saved_model_file)
    users, histories = histories_of(train_data)
    net = trainer.model
    trainer.restore_best()
    parameters = {name: value.clone() for name, value in net.named_parameters()}
    groups = net.user_groups[users]
    assert len(groups.unique()) == 3
    assert net.user_groups[0] == -1
    move_modules(net)  # what stage 3 does to them does not matter
    assert torch.equal(net.groups_of_new(users, histories), groups)
    assert torch.equal(again.model.eval().groups_of_new(users, histories), groups)
    moved = {name for name, value in net.named_parameters() if not torch.equal(value, parameters[name])}
    assert all(name.startswith("item_tower.") for name in moved)  # assigning leaves the backbone as it was


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTNARM", "PerPEFTBPR", "PerPEFTLightGCN"])
def test_after_a_regrouping_new_users_get_the_group_that_predicts_their_purchases_best(prepare, model):
    _, trainer, train_data, _, _ = prepare(model=model, **SMALL)
    net = trainer.model
    scatter_groups(net, train_data)
    net.regroup(*best_groups(net, train_data))
    users, histories = histories_of(train_data)
    found = net.groups_of_new(users, histories)
    general = not hasattr(net, "max_seq_length")
    with torch.no_grad():
        for user, items, group in zip(users, histories, found.tolist(), strict=True):
            items, losses = items[items > 0], []
            for other in range(3):
                terms = []
                for place in range(0 if general else 1, len(items)):
                    row = {"user_id": user[None]}
                    if not general:
                        row |= {"item_id_list": F.pad(items[:place], (0, 8 - place))[None]}
                        row |= {"item_length": torch.tensor([place])}
                    with net.item_tower.catalogue(other):
                        scores = net._score_all(Interaction(row))[0, 1:]
                    terms.append(F.cross_entropy(scores, items[place] - 1))
                losses.append(sum(terms) / len(terms))
            assert group == int(torch.stack(losses).argmin())


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTBPR"])
def test_a_user_who_did_not_train_is_scored_under_the_group_that_is_found(prepare, model):
    _, trainer, train_data, valid_data, _ = prepare(model=model, **SMALL)
    net = trainer.model
    scatter_groups(net, train_data)
    net.regroup(*best_groups(net, train_data))
    net.eval()
    interaction = next(iter(valid_data))[0]
    expected = net.user_groups.clone()
    expected[interaction["user_id"]] = net.groups_of_new(interaction["user_id"], net._histories(interaction))
    net.user_groups[interaction["user_id"][:20]] = -1
    pairs = interaction.repeat_interleave(3)
    pairs.update(Interaction({"item_id": torch.arange(len(pairs)) % 20 + 1}))
    with torch.no_grad():
        found = net.full_sort_predict(interaction)[:20], net.predict(pairs)[:60]
        net.user_groups.copy_(expected)
        torch.testing.assert_close(found[0], net.full_sort_predict(interaction)[:20])
        torch.testing.assert_close(found[1], net.predict(pairs)[:60])


def test_users_without_a_trace_get_the_largest_group(prepare):
    _, trainer, train_data, _, _ = prepare()
    net = trainer.model.eval()
    users, histories = histories_of(train_data)
    net.personalise(users.numpy(), np.where(np.arange(len(users)) < 20, 1, np.arange(len(users)) % 3))
    empty, single = torch.zeros(1, 8, dtype=torch.long), histories[:1].clone()
    single[:, 1:] = 0
    assert net.groups_of_new(users[:1], empty).tolist() == [1]
    net.regroupings += 1
    assert net.groups_of_new(users[:2], torch.cat([empty, single])).tolist() == [1, 1]


def test_random_groups_of_new_users_stay_and_are_all_used(prepare):
    _, trainer, train_data, _, _ = prepare(grouping="random")
    net = trainer.model.eval()
    users, histories = histories_of(train_data)
    net.personalise(users.numpy(), np.arange(len(users)) % 3)
    found = net.groups_of_new(users, histories)
    assert set(found.tolist()) == {0, 1, 2}
    assert torch.equal(net.groups_of_new(users.flip(0), histories.flip(0)).flip(0), found)


def test_users_who_are_held_out_altogether_are_tested_and_nowhere_else(tiny):
    config = tiny(num_groups=1)
    dataset = create_dataset(config)
    chosen = chosen_users(dataset, 0.2, seed=1)
    hold_out(dataset, chosen)
    held = set(chosen.tolist())
    train_data, valid_data, test_data = data_preparation(config, dataset)
    assert len(held) == 8
    assert set(train_data.histories) == set(range(1, 41)) - held
    assert set(valid_data._dataset.inter_feat["user_id"].tolist()) == set(range(1, 41)) - held
    assert set(test_data._dataset.inter_feat["user_id"].tolist()) == set(range(1, 41))


def test_a_part_of_a_state_leaves_the_rule_as_it_is(prepare):
    model = fit(prepare, epochs=2, global_epochs=1, **KMEANS)[0].model
    before = {key: value.clone() for key, value in model.state_dict().items() if key.startswith("group_rule.")}
    assert before
    model.load_state_dict({"item_tower.id_embedding.weight": model.item_tower.id_embedding.weight}, strict=False)
    assert same(before, {key: value for key, value in model.state_dict().items() if key.startswith("group_rule.")})
