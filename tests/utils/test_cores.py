"""How many cores there are, told to fewer."""

import os
import subprocess
import sys

import pytest
import torch

from recbole_perpeft.utils.cores import cpu_quota, n_cores, share_cores, single_threaded


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not tell a process where to run")
def test_cores_are_those_that_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(allowed)])
    try:
        assert n_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert n_cores() == len(allowed) <= os.cpu_count()


def test_where_the_system_does_not_tell_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert n_cores() == os.cpu_count()


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n"}, None),
        ({"cpu.max": "what else\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_of_the_cores_is_read(tmp_path, files, quota):
    for name, words in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(words)
    assert cpu_quota(tmp_path) == quota


def test_a_share_of_the_cores_counts_a_part_of_one_as_one(monkeypatch):
    monkeypatch.setattr("recbole_perpeft.utils.cores.cpu_quota", lambda: 0.5)
    assert n_cores() == 1


@pytest.mark.parametrize("user", [None, "ACTIVE"])
def test_threads_hardly_wait_busily_unless_the_user_says_otherwise(monkeypatch, user):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "x")  # so that what is set here is undone
        monkeypatch.delenv(name)
    if user:
        monkeypatch.setenv("OMP_WAIT_POLICY", user)
    monkeypatch.setattr("recbole_perpeft.utils.cores.cpu_quota", lambda: 1.5)
    monkeypatch.setattr("recbole_perpeft.utils.cores.n_cores", lambda: 2)
    share_cores()
    assert os.environ["OMP_WAIT_POLICY"] == (user or "PASSIVE")
    assert ("GOMP_SPINCOUNT" in os.environ) == (user is None)
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_the_commands_say_so_before_torch_is_there():
    script = """
import os, sys
import recbole_perpeft.commands.run as command
assert "torch" not in sys.modules
share = command.share_cores
def first():
    assert "torch" not in sys.modules
    share()
    print(os.environ["OMP_WAIT_POLICY"])
    raise SystemExit(0)
command.share_cores = first
command.main([])
"""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "PASSIVE\n"


def test_torch_has_its_threads_again_afterwards():
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    def fails():
        assert torch.get_num_threads() == 1
        raise KeyError

    try:
        with single_threaded(), pytest.raises(KeyError):
            fails()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
