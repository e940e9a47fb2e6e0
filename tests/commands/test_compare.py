"""Comparisons: real runs on tiny data, done once; numbers against a ranking by hand."""

import json
import math
import statistics

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel

from recbole_perpeft.__main__ import main
from recbole_perpeft.commands.compare import common_settings, compare
from recbole_perpeft.config import Config
from recbole_perpeft.experiments import run_process
from recbole_perpeft.experiments.output_folder import output_folder
from recbole_perpeft.experiments.run import FORMAT, Run
from recbole_perpeft.experiments.scheduler import do_runs
from recbole_perpeft.experiments.significance import difference
from recbole_perpeft.experiments.tables import markdown, summarise
from recbole_perpeft.experiments.variants import known_variants, make_rows
from recbole_perpeft.quick_start import load
from recbole_perpeft.utils.errors import DataError, PerPEFTError, SettingError


def test_a_comparison_does_every_run_once_and_reports_what_failed(common, in_this_process, tmp_path, capsys):
    out = tmp_path / "results"
    arguments = {"variants": ["perpeft", "frozen"], "models": ["Pop", "SASRec:TIME_FIELD=when"], "settings": common}
    summary, failures = compare("tiny", out, seeds=[1], **arguments)
    assert [line["row"] for line in summary["rows"]] == ["perpeft, LORA", "frozen", "Pop"]
    (failure,) = failures  # there is no such column
    assert "SASRec:TIME_FIELD=when, seed 1: FAILED" in failure
    text = capsys.readouterr().out
    assert "run 4 of 4" in text
    assert f"log, as it goes: {out}/logs" in text
    logs = [file.read_text() for file in (out / "logs").iterdir()]
    assert sum("epoch 1 evaluating" in log and "\x1b" not in log for log in logs) == 2  # Pop has one epoch
    assert "One seed: no significance is claimed." in (out / "table.md").read_text()
    for name in ("table.csv", "table.json"):
        assert (out / name).is_file()
    written = {file: file.stat().st_mtime_ns for file in (out / "runs").glob("*.json")}
    assert len(written) == 3
    for file in written:
        result = json.loads(file.read_text())
        k = 10
        by_rank = [1 / math.log2(rank + 1) if rank <= k else 0 for rank in result["ranks"].values()]
        if result["model"] != "Pop":  # whose scores are level for many items
            assert result["test"]["ndcg@10"] == pytest.approx(np.mean(by_rank), abs=1e-4)
        assert len(result["ranks"]) == result["data"]["users"] == 40
        assert result["peak_memory_mib"] > 50
    again, _ = compare("tiny", out, seeds=[1], **arguments | {"models": ["Pop"]})
    assert [line["row"] for line in again["rows"]] == ["perpeft, LORA", "frozen", "Pop"]
    assert capsys.readouterr().out.count("found") == 3
    assert {file: file.stat().st_mtime_ns for file in (out / "runs").glob("*.json")} == written


def test_models_are_kept_on_demand_and_open_with_their_score(common, in_this_process, tmp_path, capsys):
    out = tmp_path / "results"
    short = {**common, "epochs": 1, "global_epochs": 1, "num_groups": 1}
    arguments = {"variants": ["frozen"], "models": ["SASRec", "Pop"], "seeds": [1], "settings": short}
    arguments["variants"].append("content_neighbours")
    summary, _ = compare("tiny", out, **arguments)
    assert not (out / "models").exists()
    assert not any("models" in line for line in summary["rows"])
    summary, failures = compare("tiny", out, **arguments, keep_models=True)
    assert (failures, capsys.readouterr().out.count("again, for its model was not kept")) == ([], 4)
    for line in json.loads((out / "table.json").read_text())["rows"]:
        (model,) = line["models"]
        assert f"{line['row']}: {model}" in (out / "table.md").read_text()
        _, trainer, _, _, test_data = load(out / model)
        assert trainer.evaluate(test_data)["ndcg@10"] == pytest.approx(line["test"]["ndcg@10"]["mean"], abs=1e-4)
    compare("tiny", out, **arguments, keep_models=True)
    assert capsys.readouterr().out.count("found") == 4
    assert len(list((out / "models").iterdir())) == 4


def results_of(ranks_by_seed, users=("a", "b", "c")):
    return [
        {
            "name": f"seed {seed}", "settings": {"seed": seed}, "ranks": dict(zip(users, ranks, strict=True)),
            "valid": 0.1, "seconds_per_epoch": 1.0, "peak_memory_mib": 100.0,
            "parameters": {"trained": 10, "peft": 5, "frozen": 50},
            "data": {"test purchases": "x", "users": len(users), "items": 30, "history masked": True},
            "test": {"ndcg@10": float(np.mean([1 / math.log2(r + 1) if r <= 10 else 0 for r in ranks]))},
        }
        for seed, ranks in enumerate(ranks_by_seed)
    ]  # fmt: skip


def test_significance_is_that_of_paired_tests_over_users_and_seeds():
    first, second = results_of([(1, 2, 30), (1, 3, 4)]), results_of([(5, 2, 30), (2, 9, 12)])
    gains = [
        np.array([[1 / math.log2(r + 1) if r <= 10 else 0 for r in one["ranks"].values()] for one in results])
        for results in (first, second)
    ]
    found = difference(first, second, "ndcg@10")
    assert found.mean == pytest.approx(gains[0].mean() - gains[1].mean())
    assert found.p_users == pytest.approx(ttest_rel(gains[0].mean(axis=0), gains[1].mean(axis=0)).pvalue)
    assert found.p_seeds == pytest.approx(ttest_rel(gains[0].mean(axis=1), gains[1].mean(axis=1)).pvalue)
    other_users = (
        results_of([(1, 2, 30)]) + results_of([(1, 3)], ("a", "d")),
        results_of([(5, 2, 30)]) + results_of([(2, 9)], ("a", "d")),
    )
    found = difference(*other_users, "mrr@10")
    users = [np.mean([1 - 1 / 5, 1 - 1 / 2]), 0, 0, 1 / 3 - 1 / 9]  # a in both seeds, b, c, d
    assert found.p_users == pytest.approx(ttest_rel(users, [0] * 4).pvalue)
    alone = difference(first[:1], second[:1], "hit@3")
    assert (alone.mean, alone.p_users, alone.p_seeds) == (pytest.approx(1 / 3), None, None)


def test_a_metric_that_is_not_of_single_users_is_refused():
    one = results_of([(1, 2, 3)])
    with pytest.raises(SettingError, match="valid_metric: itemcoverage@10 cannot be tested user by user"):
        difference(one, one, "itemcoverage@10")


def test_the_table_has_means_deviations_the_best_in_bold_and_gains(common):
    rows = make_rows("PerPEFTSASRec", "tiny", ["perpeft", "global_peft"], ["Pop"], ["LORA"], common, {})
    ranks = {"perpeft, LORA": [(1, 2, 30), (1, 3, 4)], "global_peft, LORA": [(5, 2, 30), (2, 9, 12)],
             "Pop": [(9, 9, 9), (9, 9, 9)]}  # fmt: skip
    results = {name: results_of(of_seeds) for name, of_seeds in ranks.items()}
    summary = summarise(rows, results, "ndcg@10")
    means = {name: [one["test"]["ndcg@10"] for one in of_row] for name, of_row in results.items()}
    for line in summary["rows"]:
        assert line["test"]["ndcg@10"]["mean"] == pytest.approx(statistics.mean(means[line["row"]]))
        assert line["test"]["ndcg@10"]["std"] == pytest.approx(statistics.stdev(means[line["row"]]))
        strongest = statistics.mean(means["global_peft, LORA"])
        assert line["gain_per_cent"] == pytest.approx(100 * (statistics.mean(means[line["row"]]) / strongest - 1))
        assert line["peft_share_per_cent"] == pytest.approx(10)
    text = markdown(summary)
    assert f"**{statistics.mean(means['perpeft, LORA']):.4f}" in text
    assert text.count("**") == 2
    assert len(summary["pairs"]) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": ["frozn"]}, "Unknown variant 'frozn'. Did you mean 'frozen'?"),
        ({"models": ["SASRek"]}, "Unknown model 'SASRek'. Did you mean 'SASRec'?"),
        ({"models": ["Pop:topk"]}, "Setting 'topk' is not understood: write key=value"),
        ({"models": ["Pop:tppk=3"]}, "Unknown setting 'tppk'. Did you mean 'topk'?"),
        ({"variants": ["frozen", "frozen"]}, "Row 'frozen' is asked for twice"),
        ({"variants": [], "models": []}, "There is nothing to compare"),
        ({"pefts": ["LORRA"]}, "peft_type: 'LORRA' is not known. Did you mean 'LORA'"),
        (
            {"pefts": ["LORA"], "settings": {"peft_type": "NONE"}},
            "peft_type: NONE and --peft LORA exclude each other. Give one of them",
        ),
        ({"seeds": [1, 1]}, r"--seeds: \[1, 1\] has one twice"),
        (
            {"variants": ["without_text"], "settings": {"modalities": ["text"]}},
            r"Variant 'without_text' needs the modality 'image', which tiny lacks \(modalities: \['text'\]\)",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(common, tmp_path, change, message):
    arguments = {"variants": ["perpeft"], **change, "settings": common | change.get("settings", {})}
    with pytest.raises(PerPEFTError, match=message):
        compare("tiny", tmp_path / "out", **arguments)
    assert not list(tmp_path.glob("out/runs/*.json"))


def test_a_data_set_that_is_not_there_is_refused_before_anything_runs(common, tmp_path):
    with pytest.raises(DataError, match="Data set folder .*nope does not exist. Data sets there: .*tiny"):
        compare("nope", tmp_path / "out", settings=common)
    assert not (tmp_path / "out").exists()


def test_a_method_is_asked_of_each_variant_that_does_not_name_its_own(common):
    variants, models = ["perpeft", "frozen", "large_global_peft", "without_multimodal"], ["GRU4Rec"]
    rows = make_rows("PerPEFTSASRec", "tiny", variants, models, ["LORA", "IISAN"], {**common, "peft_config": {}},
                     {"epochs": 9})  # fmt: skip
    names = ["perpeft, LORA", "perpeft, IISAN", "frozen", "large_global_peft, LORA", "without_multimodal", "GRU4Rec"]
    assert [row.name for row in rows] == names
    assert [row.settings["epochs"] for row in rows] == [9, 9, 9, 9, 2, 2]
    assert rows[1].settings["peft_type"] == "IISAN"
    assert rows[3].settings["peft_config"] == {"r": 32, "lora_alpha": 64}
    assert rows[4].model == "SASRec"


@pytest.mark.parametrize(
    ("common_method", "perpeft_method", "expected"),
    [({}, {}, "LORA"), ({"peft_type": "NONE"}, {}, "NONE"), ({"peft_type": "LORA"}, {"peft_type": "IISAN"}, "IISAN")],
)
def test_a_method_that_is_given_as_a_setting_is_that_of_the_variants(common, common_method, perpeft_method, expected):
    given = {**common, "peft_config": {}, **common_method}
    rows = make_rows("PerPEFTSASRec", "tiny", ["perpeft", "frozen"], [], [], given, perpeft_method)
    assert [row.settings["peft_type"] for row in rows] == [expected, "NONE"]
    assert rows[0].name == ("perpeft" if expected == "NONE" else f"perpeft, {expected}")


def test_what_a_variant_sets_and_what_is_shared_count_together(common, tmp_path):
    file = tmp_path / "long.yaml"
    file.write_text("global_epochs: 50\n")
    (row,) = make_rows("PerPEFTSASRec", "tiny", [str(file)], [], ["IISAN"], common,
                       {"epochs": 75, "peft_config": {"bottleneck": 16}})  # fmt: skip
    assert row.settings["epochs"] == 75
    assert row.settings["peft_config"] == {"bottleneck": 16}


def test_rows_that_do_not_start_from_nothing_are_refused(common):
    with pytest.raises(SettingError, match="warm_start: a.pth is for single runs"):
        make_rows("PerPEFTSASRec", "tiny", ["frozen"], [], [], {**common, "warm_start": "a.pth"}, {})


def test_settings_of_files_count_for_all_rows_and_words_go_before_them(common, tmp_path):
    (tmp_path / "a.yaml").write_text("global_epochs: 50\nlearning_rate: 1e-3\n")
    (tmp_path / "b.yaml").write_text("global_epochs: 60\nepochss: 3\n")
    settings = common_settings(f"{tmp_path}/a.yaml", ["--epochs=75"])
    assert settings == {"global_epochs": 50, "learning_rate": 0.001, "epochs": 75}
    settings = common_settings(f"{tmp_path}/a.yaml {tmp_path}/b.yaml", [])
    assert settings["global_epochs"] == 60
    with pytest.raises(SettingError, match="Unknown setting 'epochss'. Did you mean 'epochs'"):
        make_rows("PerPEFTSASRec", "tiny", [], ["SASRec"], [], common | settings, {})
    with pytest.raises(SettingError, match="c.yaml does not exist. Did you mean"):
        common_settings(f"{tmp_path}/c.yaml", [])


@pytest.mark.parametrize("variant", known_variants())
def test_every_variant_makes_a_config_for_the_demo(variant):
    (row,) = make_rows("PerPEFTSASRec", "demo", [variant], [], ["LORA"], {}, {})
    Config(row.model, "demo", config_dict=row.settings)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("eval_args={'mode':'uni10'}", "Rows 'Pop' and .* cannot be compared: eval_args differs"),
        ("user_sample=20", r"user_sample differs \(~ and 20\)\. Give it to all rows, as --user_sample=…"),
        ("topk=10", "topk differs"),
        ("mask_history=False", "mask_history differs"),
    ],
)
def test_rows_that_are_measured_in_different_ways_are_refused_before_they_are_run(tmp_path, own, message):
    with pytest.raises(SettingError, match=message):
        compare("demo", tmp_path / "out", [], ["Pop", f"BPR:{own}"], seeds=[0])
    assert not (tmp_path / "out").exists()


def test_results_of_another_version_are_refused(tmp_path):
    with output_folder(tmp_path):
        pass
    (tmp_path / "runs" / "old.json").write_text(json.dumps({"format": 0}))
    with (
        pytest.raises(DataError, match=r"old.json was written by another version .* Choose another --out"),
        output_folder(tmp_path),
    ):
        pass


def test_runs_on_other_test_purchases_do_not_stand_in_one_table(common, tmp_path, monkeypatch, at_once):
    def result(name, users):
        data = {"test purchases": "x", "users": users, "items": 30, "history masked": True}
        return results_of([(1, 2, 3)])[0] | {"format": FORMAT, "name": name, "data": data}

    other = iter([result("first", 40), result("second", 39)])
    instead = at_once(lambda job, file: file.write_text(json.dumps(next(other))) and None)
    monkeypatch.setattr(run_process, "RunProcess", instead)
    with pytest.raises(DataError, match="'first' and 'second' cannot be compared: users differ \\(40 and 39\\)"):
        compare("tiny", tmp_path / "out", ["perpeft", "frozen"], seeds=[0], settings=common)


def test_a_killed_run_is_reported_and_the_rest_goes_on(common, tmp_path, monkeypatch):
    # a process that dies as one does for want of memory
    (tmp_path / "python").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "python").chmod(0o700)
    monkeypatch.setattr(run_process.sys, "executable", str(tmp_path / "python"))
    with output_folder(tmp_path / "out") as folder:
        results, failures = do_runs([Run("one", "Pop", "tiny", common), Run("two", "Pop", "tiny", common)], folder)
    assert results == [None, None]
    assert [failure.split(":")[0] for failure in failures] == ["one", "two"]
    assert all("killed by signal 9, mostly for want of memory: set encoding_batch_size" in line for line in failures)


def test_the_command_line_names_its_commands(capsys):
    assert main([]) == 2
    assert "cache,check,compare,estimate,explain,export,prepare,recommend,serve,tune" in capsys.readouterr().err
    assert main(["compare", "--variants", "frozn", "--out", "x"]) == 2
    assert "SettingError: Unknown variant 'frozn'" in capsys.readouterr().err
    torch.set_num_threads(1)
