"""How many processes are asked for, and where this one stands among them."""

import os

import pytest

from recbole_perpeft.utils import launch
from recbole_perpeft.utils.errors import PerPEFTError, ProcessError, SettingError

ALONE = {"nproc": 1, "world_size": -1, "ip": None, "port": None, "group_offset": 0}


@pytest.fixture(autouse=True)
def _not_started_by_another(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_processes_of_one_machine_meet_at_a_free_port():
    first, second = launch.places(**{**ALONE, "nproc": 2})
    assert (first.rank, second.rank, first.count, first.local_count) == (0, 1, 2, 2)
    assert first.port == second.port > 0
    assert first.address == "localhost"


def test_a_machine_has_those_after_the_ones_before_it():
    words = {"nproc": 2, "world_size": 5, "ip": "10.0.0.1", "port": None, "group_offset": 3}
    found = launch.places(**words)
    assert [(one.rank, one.local_rank) for one in found] == [(3, 0), (4, 1)]
    assert {(one.count, one.address, one.port) for one in found} == {(5, "10.0.0.1", 5678)}


@pytest.mark.parametrize("words", [{}, {"world_size": 1}, {"world_size": 0}])
def test_one_process_is_not_started(words):
    assert launch.places(**{**ALONE, **words}) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"nproc": 0}, "nproc: 0 is not possible"),
        ({"port": 3}, "port: 3 has no effect on one process"),
        ({"ip": "10.0.0.1"}, "ip: 10.0.0.1 has no effect"),
        ({"group_offset": 1}, "group_offset: 1 has no effect"),
        ({"nproc": 2, "group_offset": 1}, "would be 1 to 2 of 0 to 1"),
        ({"nproc": 3, "world_size": 2}, "group_offset: 0 is not possible with nproc: 3 and world_size: 2"),
        ({"world_size": 2}, "set ip to the first one's"),
    ],
)
def test_words_that_do_not_fit_are_refused(words, message):
    with pytest.raises(SettingError, match=message):
        launch.places(**{**ALONE, **words})


def test_a_place_is_told_by_the_environment_and_found_there(monkeypatch):
    assert launch.place() is None
    there = launch.Place(3, 5, 1, 2, "10.0.0.1", 5678)
    for name, value in there.environment.items():
        monkeypatch.setenv(name, value)
    assert launch.place() == there
    with pytest.raises(SettingError, match="nproc: 2 is not possible in one of 5 processes"):
        launch.places(**{**ALONE, "nproc": 2})
    with pytest.raises(SettingError, match="compare runs in one process, and this is one of 5"):
        launch.refuse_several("compare")


def one_fails(how):
    """What a process does that is started below."""
    if launch.place().rank == 1:
        if how == "killed":
            os.kill(os.getpid(), 9)
        raise SettingError("epochs: 0 is not possible.")
    raise ProcessError("Process 0 of 2 no longer hears from the others.")


@pytest.mark.parametrize(
    ("how", "message"),
    [("killed", r"Process 1 of 2 was killed \(SIGKILL\)"), ("mistaken", "epochs: 0 is not possible")],
)
def test_the_cause_is_told_and_not_what_followed_from_it(how, message):
    with pytest.raises(PerPEFTError, match=message):
        launch.start(launch.places(**{**ALONE, "nproc": 2}), f"{__name__}:one_fails", {"how": how})
    assert "WORLD_SIZE" not in os.environ
