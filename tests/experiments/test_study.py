"""Searches that several processes share: by a file or a database, where one dies, and what is not the same search."""

import json
import multiprocessing
import os
import time

import optuna
import pytest
import yaml

from recbole_perpeft.commands.tune import tune
from recbole_perpeft.experiments import run_process, scheduler, study
from recbole_perpeft.experiments.run import FORMAT
from recbole_perpeft.experiments.study import SharedTrials, check_same_search, open_study
from recbole_perpeft.utils.errors import SettingError
from tests.runs import until

SPACE = {"learning_rate": ("loguniform", [0.001, 0.1]), "num_groups": ("choice", [2, 4])}
N_TRIALS = 5
STORAGES = ["journal", pytest.param("sqlite", marks=pytest.mark.slow)]


@pytest.fixture
def storage(tmp_path):
    """``storage(kind)``: what ``--storage`` gets."""
    return {"journal": str(tmp_path / "trials.log"), "sqlite": f"sqlite:///{tmp_path / 'trials.db'}"}.__getitem__


@pytest.fixture
def quick(monkeypatch):
    """Signs of life and looks at one another come every moment."""
    monkeypatch.setattr(study, "_BEAT", 0.05)
    monkeypatch.setattr(study, "_SILENCE", 0.6)
    monkeypatch.setattr(study, "_LOOK_AGAIN", 0.1)
    monkeypatch.setattr(scheduler, "_LOOK_AGAIN", 0.02)


@pytest.fixture
def searching(quick, monkeypatch):
    """``searching(out, storage)`` begins a search in a process, whose trials take ``takes`` seconds."""
    context, processes = multiprocessing.get_context("fork"), []

    def begin(out, storage, takes=0.1, jobs=1):
        class Process:
            def __init__(self, job, file, log, threads):
                self._job, self._file = job, file

            def end(self):
                (out.parent / "done").mkdir(exist_ok=True)
                (out.parent / "done" / f"{self._job['settings']['learning_rate']} {os.getpid()}").touch()
                time.sleep(takes)
                result = {"format": FORMAT, "settings": self._job["settings"]}
                self._file.write_text(json.dumps({**result, "valid": score_of(self._job["settings"])}))
                return None, takes

        def work():
            monkeypatch.setattr(run_process, "RunProcess", Process)
            said.put(tune("demo", SPACE, out, N_TRIALS, storage=storage, jobs=jobs))

        said = context.Queue()
        processes.append(context.Process(target=work))
        processes[-1].start()
        return processes[-1], said

    yield begin
    for process in processes:
        process.kill()
        process.join()


def score_of(settings):
    return 1 - abs(settings["learning_rate"] - 0.01)


def done_in(folder):
    return [file.name.split() for file in (folder / "done").glob("*")]


@pytest.mark.parametrize("kind", STORAGES)
def test_processes_with_one_storage_do_each_trial_once_and_find_the_same(searching, storage, tmp_path, kind):
    begun = [searching(tmp_path / f"machine {number}", storage(kind)) for number in (1, 2)]
    (first, failures), second = [said.get(timeout=100) for _, said in begun]
    assert second == (first, failures) == (first, [])
    done = done_in(tmp_path)
    assert len(first) == len(done) == len({rate for rate, _ in done}) == N_TRIALS
    assert {int(process) for _, process in done} == {process.pid for process, _ in begun}
    assert 0.002 in [line["learning_rate"] for line in first]  # the default comes once
    assert first[0]["valid"] == max(score_of(line) for line in first)
    best = [yaml.safe_load((tmp_path / f"machine {number}" / "best.yaml").read_text()) for number in (1, 2)]
    assert best[0] == best[1] == {key: value for key, value in first[0].items() if key != "valid"}


@pytest.mark.slow
def test_processes_share_a_search_by_its_folder_alone(searching, tmp_path):
    begun = [searching(tmp_path / "out", None) for _ in range(2)]
    (first, _), (second, _) = [said.get(timeout=100) for _, said in begun]
    assert first == second
    assert len(done_in(tmp_path)) == len(first) == N_TRIALS


@pytest.mark.parametrize("kind", STORAGES)
def test_the_trial_of_a_killed_process_is_done_by_another(searching, storage, tmp_path, kind):
    killed, _ = searching(tmp_path / "killed", storage(kind), takes=600)
    until(lambda: done_in(tmp_path))
    other, said = searching(tmp_path / "other", storage(kind), takes=0)
    until(lambda: len(done_in(tmp_path)) == N_TRIALS)
    time.sleep(0.8)  # longer than a dead one may be silent
    assert said.empty()  # for the first gives signs of life
    killed.kill()
    found, _ = said.get(timeout=100)
    assert len(found) == N_TRIALS
    (rate,) = {rate for rate, process in done_in(tmp_path) if int(process) == killed.pid}
    assert [int(process) for other_rate, process in done_in(tmp_path) if other_rate == rate].count(other.pid) == 1


def test_a_trial_whose_processes_always_die_counts_as_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "_SILENCE", 0.02)
    made, begins = open_study(tmp_path / "trials.log", "tune", optuna)
    assert begins
    asked = []
    for _ in range(study.TRIES):
        trials = SharedTrials(made, 1, optuna)
        asked.append(trials.ask())
        assert asked[-1].suggest_float("learning_rate", 0, 1) == asked[0].params["learning_rate"]
        assert trials.ask() is None  # its process is silent from here on
        assert trials.n_over() == 0
        time.sleep(0.03)
        trials._take_back()
    assert trials.n_over() == 1
    assert trials.finished() == []
    said = capsys.readouterr().out.splitlines()
    assert said == ["trial 1: its process died, so it is done again"] * (study.TRIES - 1) + [
        f"trial 1: its process died, so it counts as failed, after {study.TRIES} times"
    ]


@pytest.mark.slow
def test_trials_side_by_side_are_as_many_and_are_the_same_each_time(searching, tmp_path):
    found = []
    for name in ("one", "two"):
        _, said = searching(tmp_path / name, None, jobs=3)
        found.append(said.get(timeout=100)[0])
    assert found[0] == found[1]
    assert len({line["learning_rate"] for line in found[0]}) == N_TRIALS


def test_another_search_of_the_same_name_is_refused(tmp_path):
    search = {"dataset": "demo", "settings": {"epochs": 2}, "inputs": {"demo.inter": "0"}, "sources": "0"}
    check_same_search(*open_study(tmp_path / "trials.log", "one", optuna), search, False)

    def again(name="one", keep_other_builds=False, **changed):
        made, begins = open_study(tmp_path / "trials.log", name, optuna)
        check_same_search(made, begins, search | changed, keep_other_builds)

    again()
    again(name="two", settings={"epochs": 3})
    with pytest.raises(SettingError, match=r"--study: 'one' in that storage is another search \(other settings\)"):
        again(settings={"epochs": 3})
    with pytest.raises(SettingError, match=r"another search \(demo.inter changed since\)"):
        again(inputs={"demo.inter": "1"})
    with pytest.raises(SettingError, match=r"another build did it .* Choose another"):
        again(sources="1")
    again(sources="1", keep_other_builds=True)


@pytest.mark.parametrize("given", ["nowhere/trials.log", "sqlite:///nowhere/trials.db", "nothing://host/trials"])
def test_a_storage_that_cannot_be_opened_is_explained(quick, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=f"--storage: {given} cannot be opened .* URL such as sqlite:///FILE"):
        tune("demo", SPACE, tmp_path / "out", 1, storage=given)
