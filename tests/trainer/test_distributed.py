"""Training in several processes: it is that of one process, but for rounding."""

import shutil

import numpy as np
import pytest
import torch

from tests import together
from tests.matrix import slow
from tests.together import PLAIN

SHORT = {"epochs": 3, "global_epochs": 1}
SASREC = {**PLAIN, **SHORT, "batches_per_encoding": 2, "users_per_batch": 13}  # a group's last batch is of one user
GRAPH = {  # without the terms, for which ranks decide that rounding may change
    **PLAIN, **SHORT, "model": "PerPEFTLightGCN", "reg_weight": 0.01, "group_negatives": False, "embedding_size": 16,
    "content_term": False, "purchase_term": False,
}  # fmt: skip
TWO_GROUPS = {**PLAIN, **SHORT, "num_groups": 2, "soft_groups": False}  # a batch of validation for each process
SAMPLED = {**PLAIN, **SHORT, "passes": 1.5, "encoding_batch_size": 5}  # half of the items are encoded in stage 3
QUICK = {"lora": SASREC, "two groups": TWO_GROUPS, "graph": GRAPH, "some are encoded": SAMPLED}
SLOW = {
    "portions, averages and regrouping": {
        **PLAIN, "encoding_batch_size": 4, "averaging_epochs": 1.0, "regroup_epochs": 1,
        "personalised_by": "group_vector",
    },
    "all items compete": {**PLAIN, "num_negatives": None, "batches_per_encoding": 2, "grouping": "coherence"},
    "iisan": {**PLAIN, "peft_type": "IISAN", "peft_config": None},
    "nothing adapted": {**PLAIN, "peft_type": "NONE", "peft_config": None},
    "groups by likeness": {**PLAIN, "peft_type": "NONE", "peft_config": None, "grouping": "likeness"},
    # without the content term, whose weight ranks decide, and whose loss differs by 1.5e-5 in the last epoch
    "users": {**PLAIN, "personalised_by": "user_vector", "loss_type": "CE", "content_term": False},
    "bpr": {**PLAIN, "model": "PerPEFTBPR", "embedding_size": 16},
    "sampled ranking": {**PLAIN, "eval_args": {"mode": "uni10"}},
}  # fmt: skip
CASES = [*QUICK, *map(slow, SLOW)]


def in_one(tiny_root, **run):
    torch.set_num_threads(1)
    return together.train(tiny_root, **run)


def agree(found, expected):
    """Losses, metrics and weights to rounding; those after a resumption are of fewer epochs."""
    for epoch, loss in found["losses"].items():
        assert loss == pytest.approx(expected["losses"][epoch], rel=1e-5)
    assert found["valid"] == pytest.approx(expected["valid"])
    assert found["test"] == pytest.approx(expected["test"])
    assert found["state"].keys() == expected["state"].keys()
    for name, value in expected["state"].items():
        np.testing.assert_allclose(found["state"][name], value, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def place(tiny_root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("distributed"))
        yield tiny_root


@pytest.fixture(scope="module")
def killed_alone(place):
    """The checkpoint of one process that has died in stage 3."""
    return shutil.copy(in_one(place, **SASREC, stop_after=1)["file"], "killed.pth")


@pytest.fixture(scope="module")
def two(place, killed_alone):
    """What two processes find, all in one start of them."""
    runs = {
        **QUICK,
        "resumed": {**SASREC, "resumed": killed_alone},
        "killed": {**SASREC, "stop_after": 1},
    }
    found = together.in_processes(2, "matrix", root=place, runs=list(runs.values()))
    return {**found, "runs": dict(zip(runs, found["runs"], strict=True))}


@pytest.fixture(scope="module")
def two_slowly(place):
    found = together.in_processes(2, "trained", root=place, runs=list(SLOW.values()))
    return dict(zip(SLOW, found, strict=True))


@pytest.fixture(scope="module")
def alone(place):
    """What one process finds, of each case once."""
    found = {}

    def of(case):
        if case not in found:
            found[case] = in_one(place, **{**QUICK, **SLOW}[case])
        return found[case]

    return of


@pytest.mark.parametrize("case", QUICK)
def test_two_processes_end_where_one_does(two, alone, case):
    agree(two["runs"][case], alone(case))


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_two_processes_end_where_one_does_whatever_is_trained(two_slowly, alone, case):
    agree(two_slowly[case], alone(case))


def test_a_checkpoint_of_one_process_goes_on_in_two_and_back(two, alone, place):
    agree(two["runs"]["resumed"], alone("lora"))
    agree(in_one(place, **SASREC, resumed=two["runs"]["killed"]["file"]), alone("lora"))


@pytest.mark.parametrize("passes", [3, 1.5])
def test_gradients_are_those_of_one_process_and_other_groups_have_none(two, place, passes):
    group, found = two["gradients"][passes]
    own, expected = together.gradients_of_a_step(place, passes)
    assert group == own
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-3, atol=1e-6, err_msg=name)
    others = [name for name in found for other in range(3) if other != group and f"group_{other}" in name]
    assert any(f"group_{group}" in name for name in found)
    assert not others


def test_each_asks_some_of_the_modules_for_users_losses(two, place):
    alone = together.losses(place)
    assert alone["asked"] == [[0, 1, 2]]
    assert two["losses"]["asked"] == [[0, 2], [1]]
    for found, expected in zip(two["losses"]["found"], alone["found"], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_dropout_differs_between_processes_and_follows_from_the_seed(two):
    assert two["draws"] == {"apart": 2, "together": 1, "again": True}


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"batches_per_encoding": 2}, {"passes": 1.5}])
def test_two_processes_that_go_on_end_exactly_where_they_would_have(place, how):
    """With dropout, which each draws for itself."""
    settings = {**SHORT, **how, "averaging_epochs": 1.0}
    runs = [settings, {**settings, "stop_after": 1}]
    whole, killed = together.in_processes(2, "trained", root=place, runs=runs)
    [again] = together.in_processes(2, "trained", root=place, runs=[{**settings, "resumed": killed["file"]}])
    assert again["losses"] == {2: whole["losses"][2]}
    assert again["test"] == whole["test"]
    assert all(np.array_equal(again["state"][name], value) for name, value in whole["state"].items())
