"""A model's state dict keeps torch's contract: prefixes, destinations, parents, strictness."""

import copy

import pytest
import torch
from torch import nn

from tests.training import fit, same, scatter_groups


@pytest.fixture
def trained(prepare):
    _, trainer, train_data, _, _ = prepare()
    scatter_groups(trainer.model, train_data)
    return trainer.model


def test_a_parent_saves_what_was_trained_under_its_own_names(trained):
    own = trained.state_dict()
    assert own
    whole = nn.ModuleDict({"recommender": trained, "other": nn.Linear(2, 2)}).state_dict()
    under = {key.removeprefix("recommender."): value for key, value in whole.items() if "recommender" in key}
    assert same(under, own)
    assert {key for key in whole if not key.startswith("recommender.")} == {"other.weight", "other.bias"}


def test_prefix_destination_and_keep_vars(trained):
    own, destination = trained.state_dict(), {"before": 1}
    given = trained.state_dict(destination=destination, prefix="a.b.", keep_vars=True)
    assert given is destination
    assert destination.pop("before") == 1
    assert same({key.removeprefix("a.b."): value for key, value in given.items()}, own)
    assert given["a.b.item_tower.id_embedding.weight"] is trained.item_tower.id_embedding.weight


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTLightGCN"])
def test_a_parent_loads_strictly_and_nothing_that_was_kept_is_stale(prepare, model):
    trainer, expected = fit(prepare, model=model)
    _, other, other_train, _, test_data = prepare(model=model, seed=7)
    other.eval_collector.data_collect(other_train)
    assert other.evaluate(test_data, load_best_model=False) != expected
    state = nn.ModuleDict({"recommender": trainer.model}).state_dict()
    result = nn.ModuleDict({"recommender": other.model}).load_state_dict(state)
    assert result.missing_keys == result.unexpected_keys == []
    assert other.evaluate(test_data, load_best_model=False) == expected


def test_what_is_missing_or_unknown_is_said_and_frozen_weights_stay(trained):
    state, foundation = trained.state_dict(), trained.item_tower.encoder.frozen_parameters()
    before = [parameter.clone() for parameter in foundation]
    missing = {key: value for key, value in state.items() if key != "item_tower.id_embedding.weight"}
    with pytest.raises(RuntimeError, match="Missing key.*id_embedding"):
        trained.load_state_dict(missing)
    result = trained.load_state_dict({**missing, "unknown": torch.zeros(1)}, strict=False)
    assert result.missing_keys == ["item_tower.id_embedding.weight"]
    assert result.unexpected_keys == ["unknown"]
    after = trained.item_tower.encoder.frozen_parameters()
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_what_is_assigned_is_what_trains(trained):
    state = {key: value.clone() for key, value in trained.state_dict().items()}
    places = len(trained.trainable_parameters())
    trained.load_state_dict(state, assign=True)
    assert same(trained.state_dict(), state)
    own = {parameter.data_ptr() for parameter in trained.trainable_parameters()}
    assert len(own) == places
    assert own <= {value.data_ptr() for value in state.values()}
    assert {p.data_ptr() for _, p in trained.item_tower.encoder.adapter_parameters(1)} <= own


def test_a_copy_is_its_own(trained):
    twin = copy.deepcopy(trained)
    assert same(twin.state_dict(), trained.state_dict())
    with torch.no_grad():
        twin.item_tower.id_embedding.weight.add_(1)
    twin.load_state_dict(trained.state_dict())
    assert same(twin.state_dict(), trained.state_dict())
