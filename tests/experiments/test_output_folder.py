"""Several processes on one folder of results: real ones, of which each run is done by one."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_perpeft.commands.compare import compare
from recbole_perpeft.experiments import run_process, scheduler
from recbole_perpeft.experiments.output_folder import Claim, alone, output_folder
from recbole_perpeft.experiments.run import FORMAT, Run
from recbole_perpeft.experiments.run_process import Processes
from recbole_perpeft.experiments.scheduler import do_runs
from recbole_perpeft.utils.errors import SettingError
from tests.runs import until

RUNS = [Run(name, "Pop", "tiny", {}) for name in "abcdef"]


@pytest.fixture
def started(tmp_path, monkeypatch):
    """``started(do, runs, jobs)``: a process that does ``runs``, each by ``do(job, file)``; its result in a queue."""
    monkeypatch.setattr(scheduler, "_LOOK_AGAIN", 0.02)
    processes, context = [], multiprocessing.get_context("fork")

    def start(do, runs=RUNS, jobs=1, **how):
        class Process:
            def __init__(self, job, file, log, threads):
                self._job, self._file = job, file

            def end(self):
                return do(self._job, self._file), 0.0

        def work():
            monkeypatch.setattr(run_process, "RunProcess", Process)
            with output_folder(tmp_path / "out") as folder:
                said.put(do_runs(runs, folder, place=Processes(jobs), **how))

        said = context.Queue()
        processes.append(context.Process(target=work))
        processes[-1].start()
        return processes[-1], said

    yield start
    for process in processes:
        process.kill()
        process.join()


def noting(place, takes):
    """A run that takes a while and leaves a note of who has done it."""

    def do(job, file):
        with open(place / f"{job['name']} {os.getpid()}", "x"):
            time.sleep(takes)
        file.write_text(json.dumps({"format": FORMAT, "settings": {}, "valid": 0.1, "by": os.getpid(), **job}))

    return do


@pytest.mark.parametrize("jobs", [1, 2])
def test_processes_share_the_runs_of_a_folder(started, tmp_path, jobs):
    (tmp_path / "done").mkdir()
    begun = [started(noting(tmp_path / "done", 0.1), jobs=jobs) for _ in range(2)]
    (first, no_failures), second = [said.get(timeout=60) for _, said in begun]
    assert second == (first, no_failures)
    assert no_failures == []
    assert [result["name"] for result in first] == list("abcdef")
    done = sorted(file.name.split()[0] for file in (tmp_path / "done").iterdir())
    assert done == list("abcdef")  # each once
    assert {result["by"] for result in first} == {process.pid for process, _ in begun}


def test_what_a_killed_process_had_begun_is_taken_over(started, tmp_path, capfd):
    (tmp_path / "killed").mkdir()
    (tmp_path / "done").mkdir()
    killed, _ = started(noting(tmp_path / "killed", 600))
    until(lambda: any((tmp_path / "killed").iterdir()))
    other, said = started(noting(tmp_path / "done", 0))
    done = tmp_path / "done"
    until(lambda: len(list(done.iterdir())) == 5 and "run 1 of 6: a ... done by process" in capfd.readouterr().out)
    assert said.empty()
    killed.kill()
    results, failures = said.get(timeout=60)
    assert failures == []
    assert {result["by"] for result in results} == {other.pid}


def test_a_failure_is_reported_by_all_and_not_tried_by_each(started, tmp_path):
    (tmp_path / "tried").mkdir()

    def fail(job, file):
        noting(tmp_path / "tried", 0.2)(job, file)
        file.unlink()
        return f"FAILED: no {job['name']} (log x)"

    begun = [started(fail, RUNS[:1]) for _ in range(2)]
    assert [said.get(timeout=60) for _, said in begun] == [([None], ["a: FAILED: no a (log x)"])] * 2
    assert len(list((tmp_path / "tried").iterdir())) == 1
    begun = started(fail, RUNS[:1])  # the same command later tries it again
    assert begun[1].get(timeout=60) == ([None], ["a: FAILED: no a (log x)"])
    assert len(list((tmp_path / "tried").iterdir())) == 2


def test_stage_1_that_another_process_trains_is_waited_for(started, tmp_path):
    (tmp_path / "done").mkdir()
    own = {"a": {}, "b": {"num_groups": 2}, "c": {"num_groups": 4}}
    runs = [Run(name, "PerPEFTSASRec", "tiny", {"seed": 1, **settings}) for name, settings in own.items()]

    def do(job, file):
        if job["name"] != "a":
            assert list((tmp_path / "out" / "runs").glob("a-*.json"))
        noting(tmp_path / "done", 0.1)(job, file)

    begun = [started(do, runs, jobs=2) for _ in range(2)]
    for _, said in begun:
        results, failures = said.get(timeout=60)
        assert all(results)
        assert not failures
    assert len(list((tmp_path / "done").iterdir())) == 3


def test_a_claim_is_of_one_process_and_says_of_which(tmp_path):
    with output_folder(tmp_path) as folder, alone(folder):
        first, second = Claim(folder, "a"), Claim(folder, "a")
        assert first.take()
        assert not second.take()
        assert second.holder.startswith(f"process {os.getpid()} on ")
        first.give_back()
        assert second.is_free()
        assert second.take()
        second.give_back()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(SettingError, match="--out: .*out cannot be used as a folder"), output_folder(tmp_path / "out"):
        pass


@pytest.mark.slow
def test_real_comparisons_at_once_end_as_one_alone_does_even_where_one_is_killed(common, tmp_path, in_this_process):
    rows = {"variants": ["perpeft", "frozen"], "models": ["Pop"], "seeds": [1, 2]}
    by_one, failures = compare("tiny", tmp_path / "alone", **rows, settings=common)
    assert not failures
    words = [f"--{key}={value}" for key, value in common.items() if key != "peft_config"] + ["--peft_config={'r': 2}"]
    words = [word.replace("=None", "=~") for word in words]
    command = [sys.executable, "-m", "recbole_perpeft", "compare", "--dataset=tiny", "--out=out", *words]
    command += ["--variants", "perpeft", "frozen", "--models", "Pop", "--seeds", "1", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(scheduler.__file__).parents[2])}

    def begin():
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)

    killed, other = begin(), begin()
    runs = tmp_path / "out" / "runs"
    until(lambda: any(f"process {killed.pid} on" in file.read_text() for file in runs.glob("*.holder")))
    until(lambda: children_of(killed.pid))
    workers = children_of(killed.pid)
    killed.send_signal(signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    said = [process.communicate(timeout=500)[0] for process in (killed, begin(), other)]
    assert (killed.returncode, other.returncode) == (-signal.SIGKILL, 0)
    first, second = [text[text.index("\n|") :].split("\nWritten")[0] for text in said[1:]]
    assert first == second
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [(row["row"], row["test"], row["valid"]) for row in table["rows"]] == [
        (row["row"], row["test"], row["valid"]) for row in by_one["rows"]
    ]
    done = [line for text in said for line in text.splitlines() if line.startswith("run ") and " min left)" in line]
    assert len(done) == 6


def children_of(process):
    file = Path(f"/proc/{process}/task/{process}/children")
    return file.read_text().split() if file.exists() else []
