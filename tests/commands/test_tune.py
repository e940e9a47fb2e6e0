"""Searches: what is read, that they resume, and that the best of them is written."""

import json

import pytest
import yaml

from recbole_perpeft.commands.tune import main, read_space, tune
from recbole_perpeft.config import Config
from recbole_perpeft.experiments import run_process
from recbole_perpeft.experiments.run import FORMAT
from recbole_perpeft.utils.errors import DataError, SettingError


@pytest.fixture
def scored(monkeypatch, at_once):
    """Runs that give a score of their settings at once; a list of those that ran."""
    ran = []

    def instead(job, file):
        settings = job["settings"]
        ran.append(settings)
        assert job["stage_1_folder"] is None  # for SPACE has what stage 1 reads
        if settings["num_groups"] == 4 and len(ran) == 2:
            return "FAILED: of no use (log x)"
        score = 1 - abs(settings["learning_rate"] - 0.01) - (settings["loss_type"] == "BCE")
        file.write_text(json.dumps({"format": FORMAT, "settings": settings, "valid": score}))
        return None

    monkeypatch.setattr(run_process, "RunProcess", at_once(instead))
    return ran


SPACE = {
    "learning_rate": ("loguniform", [0.001, 0.1]),
    "num_groups": ("choice", [2, 4]),
    "loss_type": ("choice", ["CE", "BCE"]),
    "metrics": ("choice", [["NDCG"], ["NDCG", "Hit"]]),
}


def test_a_search_goes_on_where_it_stopped_and_ends_as_one_that_did_not(scored, tmp_path):
    whole, _ = tune("demo", SPACE, tmp_path / "whole", 8)
    proposed = list(scored)
    scored.clear()
    first, _ = tune("demo", SPACE, tmp_path / "parts", 3)
    n_first = len(scored)
    found, _ = tune("demo", SPACE, tmp_path / "parts", 8)
    assert n_first == 3
    assert scored == proposed
    assert found == whole
    assert len(found) in (7, 8)
    assert [line["valid"] for line in found] == sorted((line["valid"] for line in found), reverse=True)
    assert {line["loss_type"] for line in found} <= {"CE", "BCE"}
    best = yaml.safe_load((tmp_path / "parts" / "best.yaml").read_text())
    assert best == {key: value for key, value in found[0].items() if key != "valid"}
    Config("PerPEFTSASRec", "demo", [tmp_path / "parts" / "best.yaml"])
    table = (tmp_path / "parts" / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(found)
    tune("demo", SPACE, tmp_path / "parts", 8)
    assert len(scored) == 8  # nothing is left to do


def test_the_first_trial_has_the_settings_as_they_are(scored, tmp_path):
    typed = {"learning_rate": 0.05, "loss_type": "BCE"}
    tune("demo", SPACE, tmp_path / "typed", 2, settings={**typed, "num_groups": 3})  # no choice of the space
    tune("demo", SPACE | {"num_groups": ("choice", [2, 8])}, tmp_path / "defaults", 1)
    first, second, defaults = scored
    assert {key: first[key] for key in typed} == typed
    assert first["num_groups"] in (2, 4)
    assert second["learning_rate"] != 0.05
    assert (defaults["learning_rate"], defaults["loss_type"], defaults["num_groups"]) == (0.002, "CE", 8)


def test_a_first_trial_away_from_the_settings_as_they_are_is_not_proposed_again(scored, tmp_path):
    space = {**SPACE, "learning_rate": ("loguniform", [0.05, 0.1])}  # the default lies outside
    tune("demo", space, tmp_path, 3)
    rates = [settings["learning_rate"] for settings in scored]
    assert len(set(rates)) == len(rates) == 3


def test_trials_share_stage_1_where_settings_of_groups_alone_are_searched(monkeypatch, at_once, tmp_path):
    places = []

    def instead(job, file):
        places.append(job["stage_1_folder"])
        file.write_text(json.dumps({"format": FORMAT, "settings": job["settings"], "valid": 0.1}))

    monkeypatch.setattr(run_process, "RunProcess", at_once(instead))
    tune("demo", {"num_groups": SPACE["num_groups"], "soft_groups": ("choice", [True, False])}, tmp_path, 2)
    assert places == [str((tmp_path / "stage_1").resolve())] * 2


def test_a_trial_that_was_stopped_is_done_again(scored, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    real = run_process.RunProcess
    monkeypatch.setattr(run_process, "RunProcess", stopped)
    with pytest.raises(KeyboardInterrupt):
        tune("demo", SPACE, tmp_path, 2)
    monkeypatch.setattr(run_process, "RunProcess", real)
    found, failures = tune("demo", SPACE, tmp_path, 2)
    assert len(found) + len(failures) == 2


def test_trials_that_do_not_start_from_nothing_are_refused(scored, tmp_path):
    with pytest.raises(SettingError, match="warm_start: a.pth is for single runs"):
        tune("demo", SPACE, tmp_path, 2, settings={"warm_start": "a.pth"})
    with pytest.raises(SettingError, match="warm_start cannot be searched"):
        tune("demo", {"warm_start": ("choice", ["a.pth", None])}, tmp_path, 2)
    assert scored == []


def test_a_data_set_that_is_not_there_is_refused_before_anything_runs(scored, tmp_path):
    with pytest.raises(DataError, match="Data set folder .*nope does not exist"):
        tune("nope", SPACE, tmp_path / "out", 2)
    assert scored == []


def test_another_search_in_the_same_folder_is_refused(scored, tmp_path):
    settings = {"epochs": 2, "hidden_size": 32, "data_path": "dataset/demo"}
    space = {**SPACE, "users_per_batch": ("int", [8, 16])}
    tune("demo", space, tmp_path, 1, settings=settings)
    with pytest.raises(SettingError, match=r"holds a search with other space \(learning_rate\). Choose another"):
        tune("demo", {**space, "learning_rate": ("uniform", [0.1, 0.2])}, tmp_path, 1, settings=settings)
    with pytest.raises(SettingError, match=r"holds a search with other settings \(hidden_size, n_layers\). Choose"):
        tune("demo", space, tmp_path, 1, settings={**settings, "hidden_size": 16, "n_layers": 1})
    with pytest.raises(SettingError, match=r"holds a search with model PerPEFTSASRec. Choose another folder"):
        tune("demo", space, tmp_path, 1, settings=settings, model="PerPEFTGRU4Rec")


def test_the_order_in_which_a_search_is_written_makes_no_other_of_it(scored, tmp_path):
    space, settings = {**SPACE, "users_per_batch": ("int", [8, 16])}, {"epochs": 2, "hidden_size": 32}
    tune("demo", space, tmp_path, 1, settings=settings)
    tune("demo", dict(reversed(space.items())), tmp_path, 2, settings=dict(reversed(settings.items())))
    assert len(scored) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("share_items: {choice: [True]}", "share_items is gone. Leave it out"),
        ("learning_rat: {uniform: [0, 1]}", "Unknown setting 'learning_rat'. Did you mean 'learning_rate'?"),
        ("learning_rate: {normal: [0, 1]}", "learning_rate: {'normal': .* is no search. Write one of choice"),
        ("learning_rate: 0.1", "learning_rate: 0.1 is no search"),
        ("learning_rate: {loguniform: [0, 1]}", r"loguniform: \[0, 1\] is not possible. Write \[lowest, highest\]"),
        ("num_groups: {int: [1, 2.5]}", r"int: \[1, 2.5\] is not possible"),
        ("num_groups: {int: [4, 2]}", r"int: \[4, 2\] is not possible"),
        ("num_groups: {choice: []}", r"choice: \[\] is not possible"),
        ("- 1", "must hold lines such as learning_rate"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_space_that_cannot_be_searched_is_explained(tmp_path, text, message):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(SettingError, match=message):
        read_space(tmp_path / "space.yaml")


def test_a_real_search_looks_at_validation_only(tiny, tiny_root, in_this_process, tmp_path, capsys):
    (tmp_path / "space.yaml").write_text("learning_rate: {choice: [0.01]}\n")
    words = [f"--{key}={value}" for key, value in (
        ("data_path", tiny_root), ("content_cache", tiny_root / "cache"), ("encoder", "clip"), ("epochs", 1),
        ("num_groups", 1), ("peft_type", "NONE"), ("hidden_size", 16), ("topk", "[5]"), ("valid_metric", "NDCG@5"),
    )]  # fmt: skip
    out = tmp_path / "out"
    assert main(["--dataset=tiny", f"--space={tmp_path / 'space.yaml'}", "--trials=1", f"--out={out}", *words]) == 0
    (file,) = (out / "runs").glob("*.json")
    result = json.loads(file.read_text())
    assert "test" not in result
    assert "ranks" not in result
    assert f"{result['valid']:.5g}" in (out / "table.md").read_text()
    assert f"--config_files={out / 'best.yaml'}" in capsys.readouterr().out
