"""Runs side by side: a small program in Python's place leaves a trace of when it ran; real runs once."""

import json
import re
import threading
from _thread import interrupt_main

import pytest

from recbole_perpeft.commands.compare import compare
from recbole_perpeft.config import Config
from recbole_perpeft.experiments import run_process
from recbole_perpeft.experiments.scheduler import Run, do_runs, output_folder
from recbole_perpeft.experiments.worker import measure
from recbole_perpeft.utils.cores import n_cores
from recbole_perpeft.utils.errors import SettingError


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """Reads the trace of programs that run for a while in place of training: ``(what, name of the run)`` each."""
    (tmp_path / "python").write_text(
        f"""#!/bin/sh
name=$(sed 's/.*"name": "\\([^"]*\\)".*/\\1/' "$3")
echo "begins $name" >> {tmp_path}/trace
echo "threads ${{OMP_NUM_THREADS:-as they are}}"
sleep 0.6
echo '{{"format": 1, "settings": {{}}, "valid": 0.1}}' > "${{3%.job}}.json"
echo "ends $name" >> {tmp_path}/trace
"""
    )
    (tmp_path / "python").chmod(0o700)
    monkeypatch.setattr(run_process.sys, "executable", str(tmp_path / "python"))
    return lambda: [tuple(line.split(" ", 1)) for line in (tmp_path / "trace").read_text().splitlines()]


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
        results, failures = do_runs([Run(name, "Pop", "tiny", {}) for name in "abcde"], folder, jobs=jobs)
        assert not list((folder / "runs").glob("*.job"))
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
        do_runs(runs, folder, jobs=3)
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
def test_global_peft_comes_after_the_run_whose_stage_1_it_takes(trace, tmp_path, capsys, jobs, share, expected):
    rows = {"global": {"num_groups": 1}, "groups": {}, "more groups": {"num_groups": 9}}
    runs = [
        Run(f"{name} {seed}", "PerPEFTSASRec", "tiny", {"seed": seed, **own})
        for seed in (1, 2)
        for name, own in rows.items()
    ]
    runs.append(Run("Pop", "Pop", "tiny", {}))
    with output_folder(tmp_path / "out") as folder:
        results, _ = do_runs(runs, folder, share_stage_1=share, jobs=jobs)
    assert all(results)
    # From what is started, not from the trace: two processes race to that.
    begun = re.findall(r"^run \d+ of \d+: (.+?) \.\.\.", capsys.readouterr().out, re.M)
    assert list(dict.fromkeys(begun))[: len(expected)] == expected


def test_runs_that_keep_no_stage_1_do_not_wait_for_one_another(trace, tmp_path):
    runs = [Run(name, "PerPEFTSASRec", "tiny", {"num_groups": groups}) for name, groups in (("a", 2), ("b", 4))]
    with output_folder(tmp_path / "out") as folder:
        do_runs(runs, folder, share_stage_1=False, jobs=2)
    assert {"a", "b"} in beside_each_other(trace())


@pytest.mark.parametrize(
    ("jobs", "given", "expected"), [(1, None, None), (2, None, "shared"), (99, None, 1), (2, "3", 3)]
)
def test_runs_side_by_side_share_the_cores(trace, tmp_path, monkeypatch, jobs, given, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    run = Run("a", "Pop", "tiny", {})
    with output_folder(tmp_path / "out") as folder:
        do_runs([run], folder, jobs=jobs)
        said = (folder / "logs" / f"{run.file}.log").read_text()
    expected = max(1, n_cores() // 2) if expected == "shared" else expected
    assert said == f"threads {expected or 'as they are'}\n"


def test_an_interrupt_ends_what_is_running(trace, tmp_path):
    text = (tmp_path / "python").read_text()
    (tmp_path / "python").write_text(text.replace("sleep 0.6", "sleep 4"))
    threading.Timer(1, interrupt_main).start()
    with output_folder(tmp_path / "out") as folder, pytest.raises(KeyboardInterrupt):
        do_runs([Run(name, "Pop", "tiny", {}) for name in "abc"], folder, jobs=2)
    assert sorted(trace()) == [("begins", "a"), ("begins", "b")]
    assert not list((tmp_path / "out" / "runs").iterdir())


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
