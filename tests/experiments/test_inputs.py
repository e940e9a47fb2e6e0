"""A finished run counts as long as what it has read, and the package that did it, are what they were."""

import json
import os
import shutil

import pytest
import yaml

from recbole_perpeft.commands.compare import compare
from recbole_perpeft.commands.tune import tune
from recbole_perpeft.experiments import run_process, scheduler, study
from recbole_perpeft.experiments.inputs import Inputs
from recbole_perpeft.experiments.output_folder import output_folder
from recbole_perpeft.experiments.run import Run
from recbole_perpeft.experiments.scheduler import do_runs
from recbole_perpeft.experiments.tables import as_csv
from recbole_perpeft.experiments.variants import make_rows
from recbole_perpeft.utils.errors import SettingError
from tests.config.test_identity import last_two_purchases, other_picture, other_titles


@pytest.fixture
def shop(common, tiny_root, tmp_path):
    """Settings of runs on a copy of the data, whose folder is ``shop["data_path"]/tiny``."""
    shutil.copytree(tiny_root / "tiny", tmp_path / "copy" / "tiny")
    return {**common, "data_path": str(tmp_path / "copy"), "content_cache": str(tmp_path / "cache")}


@pytest.fixture
def ran(monkeypatch, at_once):
    """Runs that give a result at once, by the number of their kind done so far; the names of those that ran."""
    names = []

    def instead(job, file):
        names.append(job["name"])
        result = {"valid": len(names) / 100, "ranks": {"u1": 1.0, "u2": 2.0}, "test": {"ndcg@10": len(names) / 100}}
        costs = {"seconds_per_epoch": 1.0, "peak_memory_mib": 1.0}
        data = {"test purchases": str(job["settings"].get("user_sample", 0) * job["settings"]["seed"]), "users": 2}
        parameters = {"trained": 1, "peft": 0, "frozen": 0}
        data |= {"items": 30, "history masked": True}
        file.write_text(json.dumps({**job, **result, **costs, "parameters": parameters, "data": data}))

    monkeypatch.setattr(run_process, "RunProcess", at_once(instead))
    return names


def other_file(folder):
    (folder / "clip" / "config.json").write_text((folder / "clip" / "config.json").read_text() + "\n")


def test_a_run_whose_inputs_changed_is_named_and_done_again(shop, ran, tmp_path, capsys):
    folder = tmp_path / "copy" / "tiny"
    todo = [Run("ours", "PerPEFTSASRec", "tiny", {**shop, "seed": 1}), Run("Pop", "Pop", "tiny", {**shop, "seed": 1})]
    for change, again in (
        (lambda folder: None, {"ours": "", "Pop": ""}),  # nothing is there yet
        (lambda folder: None, {}),
        (lambda folder: [os.utime(file) for file in folder.rglob("*")], {}),
        (other_titles, {"ours": " again, for tiny.item changed since"}),
        (other_picture, {"ours": " again, for pictures changed since"}),
        (other_file, {"ours": " again, for encoder changed since"}),
        (last_two_purchases, dict.fromkeys(["ours", "Pop"], " again, for tiny.inter changed since")),
        (lambda folder: (folder / "tiny.user").write_text("user_id:token\n"), {}),  # which no run loads
    ):
        change(folder)
        ran.clear()
        with output_folder(tmp_path / "out") as out:
            results, failures = do_runs(todo, out)
        assert not failures
        assert [result["name"] for result in results] == ["ours", "Pop"]
        assert ran == list(again)
        said = capsys.readouterr().out
        for number, run in enumerate(todo, start=1):
            assert f"run {number} of 2: {run.name} ...{again.get(run.name, ' found')}" in said


def test_runs_of_several_machines_are_found_in_one_folder(shop, ran, tmp_path):
    run = Run("ours", "PerPEFTSASRec", "tiny", {**shop, "seed": 1, "data_path": "data"})
    for machine in ("one", "other"):
        place = tmp_path / machine
        shutil.copytree(tmp_path / "copy", place / "data", copy_function=shutil.copyfile)
        os.chdir(place)
        with output_folder(place / "out") as out:
            if machine == "other":
                shutil.copytree(tmp_path / "one" / "out" / "runs", out / "runs", dirs_exist_ok=True)
            do_runs([run], out)
    assert ran == ["ours"]


def test_a_run_of_another_build_is_named_and_done_again_or_kept(shop, ran, tmp_path, monkeypatch, capsys):
    do = {"variants": ["frozen"], "models": ["Pop"], "seeds": [1], "settings": shop}
    compare("tiny", tmp_path / "out", **do)
    monkeypatch.setattr(scheduler, "sources_hash", lambda: "0123456789abcdef")
    monkeypatch.setattr("recbole_perpeft.experiments.tables.sources_hash", lambda: "0123456789abcdef")
    ran.clear()
    summary, _ = compare("tiny", tmp_path / "out", **do, keep_other_builds=True)
    assert ran == []
    assert capsys.readouterr().out.count("found, of another build") == 2
    assert "2 of 2 runs are of another build of this package." in summary["notes"]
    other_titles(tmp_path / "copy" / "tiny")
    compare("tiny", tmp_path / "out", **do, keep_other_builds=True)
    assert ran == ["frozen, seed 1"]  # a build may be kept, titles that are gone may not
    ran.clear()
    summary, _ = compare("tiny", tmp_path / "out", **do)
    assert ran == ["Pop, seed 1"]
    assert "another build did it (keep such runs with --keep_other_builds)" in capsys.readouterr().out
    assert not any("another build" in note for note in summary["notes"])
    for file in (tmp_path / "out" / "runs").iterdir():  # as of before runs noted what they read
        result = json.loads(file.read_text())
        file.write_text(json.dumps({key: result[key] for key in result.keys() - {"inputs", "sources"}}))
    ran.clear()
    compare("tiny", tmp_path / "out", **do, keep_other_builds=True)
    assert ran == []
    compare("tiny", tmp_path / "out", **do)
    assert len(ran) == 2


def test_the_table_says_who_was_ranked_and_whether_seeds_had_one_shop(shop, ran, tmp_path):
    summary, _ = compare("tiny", tmp_path / "out", ["frozen"], seeds=[1, 2], settings=shop)
    assert summary["notes"] == ["Ranked: 2 users, 30 items."]
    assert "Ranked: 2 users, 30 items." in (tmp_path / "out" / "table.md").read_text()
    assert as_csv(summary).splitlines()[0].startswith("row,variant,peft,seeds,users,items,valid mean")
    assert as_csv(summary).splitlines()[1].startswith("frozen,frozen,,2,2,30,")
    settings = {**shop, "user_sample": 2}
    summary, _ = compare("tiny", tmp_path / "out", ["frozen"], seeds=[1, 2], settings=settings)
    assert summary["notes"] == [
        "Seeds were measured on different test purchases, so deviations are of data as well "
        "(seed 1: 2 users, 30 items; seed 2: 2 users, 30 items).",
        "A sample of 2 users: items that none of them bought are not ranked, which makes scores higher than on all "
        "users.",
    ]
    assert json.loads((tmp_path / "out" / "table.json").read_text())["ranked"]["2"]["test purchases"] == "4"


def test_trials_are_done_again_when_their_inputs_changed(shop, ran, tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    space = {"learning_rate": ("loguniform", [0.001, 0.1])}
    first, _ = tune("tiny", space, tmp_path / "out", 2, settings=shop)
    assert tune("tiny", space, tmp_path / "out", 2, settings=shop)[0] == first
    assert len(ran) == 2
    other_titles(tmp_path / "copy" / "tiny")
    again, _ = tune("tiny", space, tmp_path / "out", 3, settings=shop)
    assert "2 trials are done again, for tiny.item changed since." in capsys.readouterr().out
    assert len(ran) == 5
    rates = [{line["learning_rate"] for line in lines} for lines in (first, again)]
    assert rates[0] < rates[1]
    assert {line["valid"] for line in again} == {0.03, 0.04, 0.05}
    monkeypatch.setattr(study, "sources_hash", lambda: "0123456789abcdef")
    tune("tiny", space, tmp_path / "out", 3, settings=shop, keep_other_builds=True)
    assert len(ran) == 5
    tune("tiny", space, tmp_path / "out", 3, settings=shop)
    assert "3 trials are done again, for another build did it" in capsys.readouterr().out
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    assert best.keys() == {"learning_rate"}


def test_files_that_other_settings_name_count_and_what_cannot_be_read_does_not_stop(shop, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"1")
    settings = {**shop, "dataset_save_path": str(tmp_path / "weights.pth"), "pretrain_path": "weights.pth"}
    before = Inputs().of("S3Rec", "tiny", settings)
    assert before.keys() == {"tiny.inter", "pretrain_path"}
    (tmp_path / "weights.pth").write_bytes(b"2")
    after = Inputs().of("S3Rec", "tiny", settings)
    assert [key for key in before if before[key] != after[key]] == ["pretrain_path"]
    assert Inputs().of("PerPEFTSASRec", "tiny", {**shop, "image_dir": "nowhere"}) == {}
    pictures = {**shop, "image_field": "brand"}
    assert "pictures" not in Inputs().of("PerPEFTSASRec", "tiny", pictures)


def test_pictures_without_an_ending_count_and_the_list_of_failed_downloads_does_not(shop, tmp_path):
    images = tmp_path / "copy" / "tiny" / "images"
    (images / "i0.png").rename(images / "i0")
    before = Inputs().of("PerPEFTSASRec", "tiny", shop)
    (images / "pictures_failed.tsv").write_text("item\turl\tfailed\treason\n")
    assert Inputs().of("PerPEFTSASRec", "tiny", shop) == before
    (images / "i0").write_bytes((images / "i1.png").read_bytes())
    after = Inputs().of("PerPEFTSASRec", "tiny", shop)
    assert [key for key in before if before[key] != after[key]] == ["pictures"]


def test_a_setting_that_a_variant_does_not_read_is_left_out_of_its_row(common, tmp_path, capsys):
    file = tmp_path / "pairs.yaml"
    file.write_text("loss_type: BPR\n")
    shared = {"correct_sampling": True, "epochs": 3, "global_epochs": 1}
    rows = make_rows("PerPEFTSASRec", "tiny", ["perpeft", str(file)], [], ["LORA"], common, shared)
    assert [row.settings["correct_sampling"] for row in rows] == [True, True]  # the log of the second says what of it
    assert [row.settings["epochs"] for row in rows] == [3, 3]
    file.write_text("model: PerPEFTBERT4Rec\n")  # whose loss reads neither
    common = {key: value for key, value in common.items() if key not in ("num_negatives", "group_negatives")}
    (row,) = make_rows("PerPEFTSASRec", "tiny", [str(file)], [], ["LORA"], common, shared | {"num_negatives": 4})
    assert {"correct_sampling", "num_negatives"}.isdisjoint(row.settings)
    assert capsys.readouterr().out.count("is left out") == 2
    file.write_text("global_epochs: 50\n")
    with pytest.raises(SettingError, match="global_epochs: 50 is more than epochs: 3"):
        make_rows("PerPEFTSASRec", "tiny", [str(file)], [], ["LORA"], common, shared)
