"""Towers in threads of their own: the features and gradients of one after the other, to the last digit."""

import threading

import pytest
import torch

from recbole_perpeft.encoder import item_features
from recbole_perpeft.encoder.side_by_side import run_side_by_side
from tests.encoder.conftest import ITEMS, SOURCES, trained


@pytest.fixture
def threads_of_towers(monkeypatch):
    """Threads that towers ran in, so many at a time; the machine seems to have two cores."""
    seen = []
    whole = run_side_by_side

    def observed(runs, weights):
        def noted(run):
            def inner():
                seen.append(threading.get_ident())
                return run()

            return inner

        return whole([noted(run) for run in runs], weights)

    monkeypatch.setattr(item_features, "run_side_by_side", observed)
    return seen


def features_and_gradients(encoder, threads):
    encoder.item_features._threads = threads
    towards = torch.randn(len(ITEMS), encoder.feature_dim, generator=torch.Generator().manual_seed(3))
    parameters = [parameter for _, parameter in encoder.adapter_parameters(1)]
    torch.manual_seed(11)
    features = encoder.encode(ITEMS, 1)
    gradients = torch.autograd.grad((features * towards).sum(), parameters)
    torch.manual_seed(11)
    with torch.no_grad():
        return [features.detach(), *gradients, encoder.encode(ITEMS, 1)]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("peft_type", ["LORA", "IA3"])
def test_towers_give_the_same_at_the_same_time(build, threads_of_towers, source, peft_type):
    encoder = trained(build(peft_type, source)).train()
    one_by_one = features_and_gradients(encoder, threads=1)
    assert not threads_of_towers
    at_once = features_and_gradients(encoder, threads=2)
    assert len(threads_of_towers) == 4
    assert len(set(threads_of_towers)) > 1
    assert len(at_once) == len(one_by_one) > 2
    for own, other in zip(at_once, one_by_one, strict=True):
        assert other.abs().max() > 1e-4
        assert torch.equal(own, other)


def test_towers_run_in_turn_where_their_random_numbers_are_not_known(build, threads_of_towers):
    encoder = build("LOHA").train()
    encoder.item_features._threads = 2
    encoder.encode(ITEMS, 0)
    assert not threads_of_towers


def test_towers_run_in_turn_where_their_graph_is_not_kept(build, threads_of_towers):
    encoder = build().train()
    encoder.item_features._threads, encoder.item_features.in_portions = 2, True
    encoder.encode(ITEMS, 0)
    assert not threads_of_towers


def test_a_tower_without_a_module_has_no_gradient():
    weight, other = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))
    runs = [lambda: torch.ones(3, 2) * weight, lambda: torch.full((3, 1), 5.0)]
    features = run_side_by_side(runs, [[weight, other], []])
    assert features.tolist() == [[1, 1, 5]] * 3
    found = torch.autograd.grad(features.sum(), [weight, other], allow_unused=True)
    assert found[0].tolist() == [3, 3]
    assert found[1] is None


def test_an_error_in_a_tower_is_told():
    def fails():
        raise ValueError("no such picture")

    for runs in ([fails, lambda: torch.ones(1, 1)], [lambda: torch.ones(1, 1), fails]):
        with pytest.raises(ValueError, match="no such picture"), torch.no_grad():
            run_side_by_side(runs, [[], []])
