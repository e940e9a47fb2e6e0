"""Fixtures that tests of experiments and of commands share."""

import contextlib
import io
import json
import logging
import time

import pytest

from recbole_perpeft.experiments import run_process, worker
from tests.tiny_runs import TINY


def until(condition):
    """Wait for what another process does."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


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


@pytest.fixture
def in_this_process(monkeypatch, at_once):
    """Runs are done here, one after another: what a run ends with does not depend on its process."""

    def do(job, file):
        file.with_suffix(".job").write_text(json.dumps(job, default=str))
        root, said = logging.getLogger(), io.StringIO()
        handlers, level = root.handlers, root.level
        root.handlers = []  # as a process has it, which logs to the run's own file
        try:
            with contextlib.redirect_stderr(said):
                worker.main(str(file.with_suffix(".job")))
        except SystemExit:
            return f"FAILED: {said.getvalue().splitlines()[-1]}"
        finally:
            for handler in root.handlers:
                handler.close()
            root.handlers = handlers
            root.setLevel(level)
            file.with_suffix(".job").unlink()

    monkeypatch.setattr(run_process, "RunProcess", at_once(do))
