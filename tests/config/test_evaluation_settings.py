"""How a run is evaluated: parts of ``eval_args`` over the defaults, metrics that go together, errors before loading."""

import pytest

from recbole_perpeft.config import Config
from recbole_perpeft.config.settings import merge_settings, read_settings_files
from recbole_perpeft.quick_start import prepare as prepare_run
from recbole_perpeft.utils.errors import SettingError

OURS = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": {"valid": "full", "test": "full"}}
MODELS = pytest.mark.parametrize("model", ["PerPEFTSASRec", "BPR"])


def demo(model, *words, **values):
    return Config(model, "demo", config_dict=values, command_line=words)


@MODELS
@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"mode": "full"}, {}),
        ({"mode": "uni100"}, {"mode": {"valid": "uni100", "test": "uni100"}}),
        ({"mode": {"valid": "pop50", "test": "full"}}, {"mode": {"valid": "pop50", "test": "full"}}),
        ({"split": {"TS": [8, 1, 1]}}, {"split": {"TS": [8, 1, 1]}}),
        ({"split": {"RS": [0.8, 0.1, 0.1]}}, {"split": {"RS": [0.8, 0.1, 0.1]}}),
        ({"group_by": None}, {"group_by": None}),
        ({}, {}),
    ],
)
def test_parts_of_eval_args_leave_the_others_as_they_are(model, given, changed):
    config = demo(model, f"--eval_args={given}")
    assert config["eval_args"] == {**OURS, **changed}
    assert Config(config_dict=config.settings())["eval_args"] == config["eval_args"]


def test_parts_of_several_sources_are_put_together(tmp_path):
    for name, text in (("a", "eval_args: {mode: uni50}"), ("b", "eval_args: {group_by: none}")):
        (tmp_path / name).write_text(text)
    files = [tmp_path / "a", tmp_path / "b"]
    assert read_settings_files(files) == {"eval_args": {"mode": "uni50", "group_by": "none"}}
    config = Config("BPR", "demo", files, {"eval_args": {"order": "RO"}}, ["--eval_args={'mode': 'uni9'}"])
    assert config["eval_args"] == {
        "split": {"LS": "valid_and_test"},
        "order": "RO",
        "group_by": "none",
        "mode": {"valid": "uni9", "test": "uni9"},
    }
    assert merge_settings({"peft_config": {"r": 2}}, {"peft_config": {"lora_alpha": 4}}) == {
        "peft_config": {"lora_alpha": 4}
    }


def test_time_comes_before_the_future_with_any_split(tiny):
    for split in ({"RS": [0.6, 0.2, 0.2]}, {"TS": [6, 2, 2]}):
        config = tiny(model="BPR", eval_args={"split": split}, train_batch_size=32, embedding_size=8)
        _, _, train, valid, test = prepare_run(config)
        latest, earliest = {}, {}
        for part, times, pick in ((train, latest, max), (test, earliest, min)):
            for user, time in zip(
                *(part._dataset.inter_feat[key].tolist() for key in ("user_id", "timestamp")), strict=True
            ):
                times[user] = pick(times.get(user, time), time)
        shared = latest.keys() & earliest.keys()
        assert shared
        assert all(latest[user] < earliest[user] for user in shared)


@MODELS
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{'spilt': {'RS': [8, 1, 1]}}", "Unknown part of eval_args 'spilt'. Did you mean 'split'"),
        ("{'split': {'XX': [8, 1, 1]}}", "Unknown split in eval_args 'XX'. Known: LS, RS"),
        ("{'split': {'RS': [8, 1]}}", r"split: {RS: \[8, 1\]} is not possible: write three shares"),
        ("{'split': {'LS': 'valid_and_tes'}}", "Did you mean 'valid_and_test'"),
        ("{'split': {'LS': 'valid_only'}}", "it leaves no purchase to test on"),
        ("{'split': 'LS'}", "split: 'LS' is not possible: write one way to split"),
        ("{'order': 'to'}", "Unknown order in eval_args 'to'. Did you mean 'TO'"),
        ("{'group_by': 'users'}", "Did you mean 'user'"),
        ("{'group_by': 'none', 'split': {'TS': [8, 1, 1]}}", "group_by: none is not possible with split: TS"),
        ("{'mode': 'uni'}", "mode: 'uni' is not possible: write full, labeled, uni100"),
        ("{'mode': {'tset': 'full'}}", "Unknown part of mode in eval_args 'tset'. Did you mean 'test'"),
        ("full", "eval_args: 'full' is not possible"),
    ],
)
def test_eval_args_that_cannot_be_are_refused(model, given, message):
    with pytest.raises(SettingError, match=message):
        demo(model, f"--eval_args={given}")


def test_a_sequence_is_not_split_by_chance():
    for model in ("PerPEFTSASRec", "SASRec"):
        with pytest.raises(SettingError, match="order: RO is not possible with .*Set order: TO"):
            demo(model, "--eval_args={'order': 'RO'}")


@MODELS
@pytest.mark.parametrize(
    ("words", "metric"),
    [
        (["--topk=[5,10]"], "NDCG@5"),
        (["--topk=5,10"], "NDCG@5"),
        (["--topk=7"], "NDCG@7"),
        (["--metrics=[MRR]"], "MRR@20"),
        (["--metrics=gauc"], "gauc"),
        (["--metrics=[AUC,LogLoss]", "--eval_args={'mode': 'uni9'}"], "AUC"),
    ],
)
def test_the_metric_that_selects_follows_those_that_are_measured(model, words, metric):
    config = demo(model, *words)
    assert config["valid_metric"] == metric
    assert f"valid_metric follows metrics and topk: {metric}." in config.remarks
    again = Config(config_dict=config.settings())
    assert again["valid_metric"] == metric
    assert not any("follows" in remark for remark in again.remarks)


@MODELS
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--topk=[5]", "--valid_metric=MRR@5"],
            "MRR@5 is none of what .*Add MRR to metrics, or set NDCG@5",
        ),
        (["--topk=[5]", "--valid_metric=NDCG@10"], "Add 10 to topk, or set NDCG@5"),
        (["--valid_metric=NDCG"], "valid_metric: NDCG is none of what is measured"),
        (["--valid_metric=NDGC@20"], "valid_metric: NDGC@20 is not possible: write NDCG@20"),
        (["--valid_metric=~"], "valid_metric: ~ is not possible"),
        (["--metrics=NDGC"], "Unknown metric in metrics: 'NDGC'. Did you mean 'ndcg'"),
        (["--metrics=[AUC]"], "metrics: AUC is not possible with eval_args mode: full"),
        (["--metrics=[AUC,NDCG]"], "metrics: AUC cannot stand beside NDCG"),
        (["--metrics=[]"], "metrics: .* give at least one"),
        (["--topk=~"], "topk: ~ is not possible"),
        (["--topk=[5,'x']"], "topk: 'x' is not possible: it must be a whole number from 1 up"),
        (["--topk=0"], "topk: 0 is not possible"),
        (["--valid_metric=AUC"], r"AUC is none of what is measured \(.*\)\. Set NDCG@20"),
        (["--metrics=[GAUC]", "--valid_metric=GAUC@5"], r"GAUC@5 is none of what is measured \(.*\)\. Set GAUC\."),
    ],
)
def test_metrics_that_cannot_be_are_refused(model, words, message):
    with pytest.raises(SettingError, match=message):
        demo(model, *words)


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "BPR"])
def test_more_than_all_items_cannot_be_ranked(tiny, model):
    with pytest.raises(SettingError, match="topk: 31 is more than the 30 items of tiny. Set at most 30"):
        prepare_run(tiny(model=model, topk=[31], valid_metric="NDCG@31"))


def test_a_k_beyond_what_is_drawn_is_said_to_tell_nothing():
    remark = "topk: 30 is more than the 21 items that mode: uni20 ranks for a user: every target is found"
    for model in ("PerPEFTSASRec", "BPR"):
        args = {"mode": {"valid": "uni20", "test": "full"}}
        assert any(remark in said for said in demo(model, eval_args=args).remarks)
        assert not any("every target" in said for said in demo(model, "--topk=21", eval_args=args).remarks)
