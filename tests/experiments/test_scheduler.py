"""Runs side by side: on a clock that moves only while the scheduler waits; real processes where they are the point."""

import json
import os
import signal
import threading
import time
from concurrent.futures import wait

import pytest

from recbole_perpeft.commands.compare import compare
from recbole_perpeft.config import Config
from recbole_perpeft.experiments import run_process, scheduler
from recbole_perpeft.experiments.output_folder import output_folder
from recbole_perpeft.experiments.run import FORMAT, Run
from recbole_perpeft.experiments.run_process import Processes
from recbole_perpeft.experiments.scheduler import do_runs
from recbole_perpeft.experiments.worker import measure
from recbole_perpeft.utils.cores import n_cores
from recbole_perpeft.utils.errors import SettingError


@pytest.fixture
def trace(monkeypatch):
    """Runs that all take as long, in place of processes; gives ``(what, name of the run)`` as they begin and end."""
    events, running = [], []

    class Process:
        def __init__(self, job, file, log, threads):
            self.name, self.over = job["name"], threading.Event()
            file.write_text(json.dumps({"format": FORMAT, "settings": {}, "valid": 0.1}))
            events.append(("begins", self.name))
            running.append(self)

        def end(self):
            self.over.wait()
            return None, 0.6

    def wait_until_the_first_is_over(futures, return_when):
        first = running.pop(0)
        events.append(("ends", first.name))
        first.over.set()
        return wait(futures, return_when=return_when)

    monkeypatch.setattr(run_process, "RunProcess", Process)
    monkeypatch.setattr(scheduler, "wait", wait_until_the_first_is_over)
    return lambda: events


@pytest.fixture
def instead_of_python(tmp_path, monkeypatch):
    """``instead_of_python(program)``: a shell's program runs where a run's process would; $3 is the job's file."""

    def put(program):
        (tmp_path / "python").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "python").chmod(0o700)
        monkeypatch.setattr(run_process.sys, "executable", str(tmp_path / "python"))

    return put


def beside_each_other(events):
    """Sets of runs that ran at the same time."""
    running, together = set(), []
    for what, name in events:
        running = running | {name} if what == "begins" else running - {name}
        together.append(running)
    return together


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_so_many_run_side_by_side_and_no_more(trace, tmp_path, jobs):
    with output_folder(tmp_path / "out") as folder:
        results, failures = do_runs([Run(name, "Pop", "tiny", {}) for name in "abcde"], folder, place=Processes(jobs))
    assert len(results) == 5
    assert all(results)
    assert not failures
    assert max(map(len, beside_each_other(trace()))) == jobs
    assert sorted(name for what, name in trace() if what == "begins") == list("abcde")


def test_of_runs_with_the_same_stage_1_one_is_finished_before_the_others_begin(trace, tmp_path):
    groups = {"a": {}, "b": {"num_groups": 2}, "c": {"grouping": "random"}, "global": {"num_groups": 1}}
    runs = [Run(name, "PerPEFTSASRec", "tiny", {"seed": 1, **own}) for name, own in groups.items()]
    runs.append(Run("another seed", "PerPEFTSASRec", "tiny", {"seed": 2}))
    with output_folder(tmp_path / "out") as folder:
        do_runs(runs, folder, place=Processes(3))
    together = beside_each_other(trace())
    assert {"a", "global", "another seed"} in together
    assert {"b", "c"} in together or {"b", "c"} in [names - {"another seed", "global"} for names in together]
    assert not any({"a"} < names & {"a", "b", "c"} for names in together)


@pytest.mark.parametrize(
    ("jobs", "share", "expected"),
    [
        (1, True, ["groups 1", "global 1", "more groups 1", "groups 2", "global 2", "more groups 2", "Pop"]),
        (1, False, ["global 1", "groups 1", "more groups 1", "global 2", "groups 2", "more groups 2", "Pop"]),
        (2, True, ["groups 1", "groups 2"]),
    ],
)
def test_global_peft_comes_after_the_run_whose_stage_1_it_takes(trace, tmp_path, jobs, share, expected):
    rows = {"global": {"num_groups": 1}, "groups": {}, "more groups": {"num_groups": 9}}
    runs = [
        Run(f"{name} {seed}", "PerPEFTSASRec", "tiny", {"seed": seed, **own})
        for seed in (1, 2)
        for name, own in rows.items()
    ]
    runs.append(Run("Pop", "Pop", "tiny", {}))
    with output_folder(tmp_path / "out") as folder:
        results, _ = do_runs(runs, folder, share_stage_1=share, place=Processes(jobs))
    assert all(results)
    begun = [name for what, name in trace() if what == "begins"]
    assert begun[: len(expected)] == expected


def test_runs_that_keep_no_stage_1_do_not_wait_for_one_another(trace, tmp_path):
    runs = [Run(name, "PerPEFTSASRec", "tiny", {"num_groups": groups}) for name, groups in (("a", 2), ("b", 4))]
    with output_folder(tmp_path / "out") as folder:
        do_runs(runs, folder, share_stage_1=False, place=Processes(2))
    assert {"a", "b"} in beside_each_other(trace())


@pytest.mark.parametrize(
    ("jobs", "given", "expected"), [(1, None, None), (2, None, "shared"), (99, None, 1), (2, "3", 3)]
)
def test_runs_side_by_side_share_the_cores(instead_of_python, tmp_path, monkeypatch, jobs, given, expected):
    instead_of_python('echo "threads ${OMP_NUM_THREADS:-as they are}"')
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    run = Run("a", "Pop", "tiny", {})
    with output_folder(tmp_path / "out") as folder:
        do_runs([run], folder, place=Processes(jobs))
        said = (folder / "logs" / f"{run.file}.log").read_text()
    expected = max(1, n_cores() // 2) if expected == "shared" else expected
    assert said == f"threads {expected or 'as they are'}\n"


def test_an_interrupt_ends_what_is_running(instead_of_python, tmp_path):
    begun, ended = tmp_path / "begun", threading.Event()
    begun.mkdir()
    instead_of_python(f"touch {begun}/$$; exec sleep 600")

    def interrupt():
        until = time.monotonic() + 60
        while len(list(begun.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        while not ended.wait(20):  # one that comes just before a wait acts when that ends
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        with output_folder(tmp_path / "out") as folder, pytest.raises(KeyboardInterrupt):
            do_runs([Run(name, "Pop", "tiny", {}) for name in "abc"], folder, place=Processes(2))
    finally:
        ended.set()
    processes = [int(file.name) for file in begun.iterdir()]
    assert len(processes) == 2
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert not list((tmp_path / "out" / "runs").iterdir())


@pytest.mark.slow
def test_real_runs_side_by_side_end_as_they_do_alone(common, tmp_path, capsys):
    out = tmp_path / "out"
    summary, failures = compare("tiny", out, ["frozen"], ["Pop"], seeds=[1], settings=common, jobs=2)
    assert not failures
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run ")]
    begun = ["run 1 of 2: frozen, seed 1 ...", "run 2 of 2: Pop, seed 1 ..."]
    assert lines[:2] == begun
    assert sorted(line.split(" valid ")[0] for line in lines[2:]) == begun
    assert all(line.endswith(" min left)") for line in lines[2:])
    assert [row["row"] for row in summary["rows"]] == ["frozen", "Pop"]
    assert "s/epoch: with up to 2 runs side by side." in (out / "table.md").read_text()
    curves = {folder.name: list(folder.iterdir()) for folder in (tmp_path / "log_tensorboard").iterdir()}
    assert curves.keys() == {file.stem for file in (out / "runs").iterdir()}
    assert all(curves.values())
    for file in (out / "runs").glob("*.json"):
        result = json.loads(file.read_text())
        alone = measure(Config(result["model"], "tiny", config_dict=result["settings"]), test=True)
        for same in ("valid", "test", "ranks", "data", "epochs", "parameters"):
            assert result[same] == alone[same], (result["name"], same)


def test_no_run_at_a_time_is_refused(common, tmp_path):
    with pytest.raises(SettingError, match="--jobs: 0 runs side by side are not possible. Give 1 or more."):
        compare("tiny", tmp_path, settings=common, jobs=0)
