"""Fixtures that tests of experiments and of commands share."""

import pytest

from tests.conftest import TINY


@pytest.fixture
def common(tiny_root, tmp_path, monkeypatch):
    """Settings of all runs on the tiny data."""
    monkeypatch.chdir(tmp_path)
    paths = {"data_path": str(tiny_root), "content_cache": str(tiny_root / "cache"), "encoder": "clip"}
    return {**TINY, **paths, "epochs": 2, "global_epochs": 1, "group_negatives": False}


@pytest.fixture
def at_once():
    """Makes what stands in for runs' processes: ``do(job, file)`` is called at once, and says what went wrong."""

    def stand_in(do):
        class Process:
            def __init__(self, job, file, log, threads):
                self._error = do(job, file)

            def end(self):
                return self._error, 0.0

        return Process

    return stand_in
