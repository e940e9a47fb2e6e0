"""The table of the machine at the end of a run."""

import time

import psutil
from recbole.utils import get_environment

from recbole_perpeft.report.environment import environment_table


def test_the_table_is_recboles_without_its_second_of_waiting(tiny):
    config = tiny()
    started = time.perf_counter()
    table = environment_table(config).splitlines()
    assert time.perf_counter() - started < 0.5
    theirs = get_environment(config).draw().splitlines()
    assert [line.split("|")[1:2] for line in table if "|" in line] == [
        line.split("|")[1:2] for line in theirs if "|" in line
    ]
    used = next(line for line in table if "Memory" in line).split()[3]
    assert float(used) > 0.1 * psutil.Process().memory_info().rss / 2**30
    assert f"{psutil.virtual_memory().total / 2**30:.2f} G" in "\n".join(table)
    assert "%" in next(line for line in table if "CPU" in line)
