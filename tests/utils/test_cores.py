"""How many cores there are, told to fewer."""

import os
import subprocess
import sys

import pytest

from recbole_perpeft.utils.cores import n_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not tell a process where to run")
def test_cores_are_those_that_the_process_may_use():
    one = min(os.sched_getaffinity(0))
    pinned = f"import os; os.sched_setaffinity(0, [{one}])"
    code = f"{pinned}; from recbole_perpeft.utils.cores import n_cores; print(n_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"
    assert 1 <= n_cores() <= os.cpu_count()


def test_where_the_system_does_not_tell_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert n_cores() == os.cpu_count()
