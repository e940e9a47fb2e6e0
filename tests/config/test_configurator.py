"""Where settings come from, what they may be, and what a mistake says."""

import sys
from pathlib import Path

import pytest
import torch
import yaml

from recbole_perpeft.config import Config
from recbole_perpeft.config.setting_effects import without_effect
from recbole_perpeft.config.settings import PROPERTIES, RECBOLE_PROPERTIES, YAML_LOADER
from recbole_perpeft.encoder import EncoderError
from recbole_perpeft.utils import processes
from recbole_perpeft.utils.errors import SettingError
from recbole_perpeft.utils.launch import Place


def make(tmp_path=None, files=(), values=None, line=(), model="SASRec"):
    paths = []
    for number, text in enumerate(files):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        paths.append(path)
    return Config(model, "demo", paths, values or {}, line)


def test_command_line_beats_dict_beats_files_beats_defaults(tmp_path):
    files = ["learning_rate: 0.1\nepochs: 1\nseed: 1\nhidden_size: 8\n", "hidden_size: 16\n"]
    config = make(tmp_path, files, {"epochs": 2, "seed": 2}, ["--seed=3"])
    assert (config["learning_rate"], config["hidden_size"], config["epochs"], config["seed"]) == (0.1, 16, 2, 3)
    assert config["n_layers"] == 2  # RecBole's SASRec.yaml
    assert config["topk"] == [20, 30]  # our overall.yaml over RecBole's [10]


def test_a_value_may_hold_an_equals_sign():
    assert make(line=["--text_template=a={title}"], model="PerPEFTSASRec")["text_template"] == "a={title}"


@pytest.mark.parametrize(
    ("word", "near"), [("lerning_rate", "learning_rate"), ("peft_typ", "peft_type"), ("num_group", "num_groups")]
)
def test_a_misspelt_key_names_the_nearest(word, near, tmp_path):
    message = f"Unknown setting '{word}'. Did you mean '{near}'"
    with pytest.raises(SettingError, match=message):
        make(line=[f"--{word}=1"])
    with pytest.raises(SettingError, match=message):
        make(values={word: 1})
    with pytest.raises(SettingError, match=message):
        make(tmp_path, [f"{word}: 1"])


def test_every_key_of_recboles_own_models_is_known():
    for model in ("BPR", "GRU4Rec", "LightGCN", "BERT4Rec", "SGL"):
        text = (RECBOLE_PROPERTIES / "model" / f"{model}.yaml").read_text()
        make(values=yaml.load(text, Loader=YAML_LOADER), model=model)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["epochs=3"], "'epochs=3' is not understood: write --key=value"),
        (["--epochs"], "'--epochs' is not understood"),
        (["--epochs=3", "--epochs=4"], "--epochs is given twice, as '3' and as '4'"),
    ],
)
def test_a_bad_command_line_word_says_how_to_write_it(line, message):
    with pytest.raises(SettingError, match=message):
        make(line=line)


@pytest.mark.parametrize("text", ["epochs: 3\nseed: 1\nepochs: 4\n", "eval_args:\n  mode: full\n  mode: uni100\n"])
def test_a_key_that_a_file_has_twice_is_refused(tmp_path, text):
    with pytest.raises(SettingError, match="0.yaml cannot be read: '(epochs|mode)' is given twice\n.*line 3"):
        make(tmp_path, files=[text])


def test_settings_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SettingError, match="missing.yaml does not exist"):
        Config("SASRec", "demo", [tmp_path / "missing.yaml"])
    with pytest.raises(SettingError, match="must hold 'key: value' lines, not a list"):
        make(tmp_path, ["- a\n- b\n"])
    with pytest.raises(SettingError, match="0.yaml cannot be read"):
        make(tmp_path, ["a: [1"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_groups": 0}, "num_groups: 0 is not possible"),
        ({"num_groups": 2.5}, "num_groups: 2.5 is not possible"),
        ({"users_per_batch": 0}, "users_per_batch: 0 is not possible"),
        ({"num_negatives": 0, "loss_type": "BPR"}, "num_negatives: 0 is not possible"),
        ({"global_epochs": 90}, "global_epochs: 90 is more than epochs: "),
        ({"num_negatives": str(Path.home())}, "The shell put it in place of a ~: write 'num_negatives=~'"),
        ({"averaging_epochs": 0}, "averaging_epochs: 0 is not possible: it must be a number above 0, or ~"),
        ({"peft_learning_rate": -1}, "peft_learning_rate: -1 is not possible"),
        ({"peft_learning_rate": [1]}, r"peft_learning_rate: \[1\] is not possible"),
        ({"averaging_epochs": [1]}, r"averaging_epochs: \[1\] is not possible"),
        ({"cold_items": []}, r"cold_items: \[\] is not possible"),
        ({"loss_type": ["CE"]}, r"Unknown loss_type \['CE'\]"),
        ({"loss_type": "BRP"}, "Unknown loss_type 'BRP'. Did you mean 'BPR'"),
        ({"loss_type": {}}, "Unknown loss_type {}"),
        ({"learner": None}, "Unknown learner None"),
        ({"hidden_act": None}, "Unknown hidden_act None"),
        ({"averaging_epochs": []}, r"averaging_epochs: \[\] is not possible: it must be a number above 0, or ~"),
        ({"cold_items": [None]}, r"cold_items: \[None\] is not possible"),
        ({"regroup_epochs": [1]}, r"regroup_epochs: \[1\] is not possible: it must be a whole number from 1 up"),
        ({"grouping": "kmean"}, "Unknown grouping 'kmean'. Did you mean 'kmeans'"),
        ({"missing_content": "ignore"}, "Unknown missing_content 'ignore'"),
        ({"num_negatives": None, "loss_type": "BPR"}, "num_negatives: ~ is not possible with loss_type: BPR. Set 1"),
        ({"num_negatives": None, "loss_type": "BCE"}, "num_negatives: ~ is not possible with loss_type: BCE. Set 1"),
        ({"num_negatives": -1}, "num_negatives: -1 is not possible: it must be a whole number from 0 up"),
        ({"peft_layers": 0}, "peft_layers: 0 is not possible: it must be a whole number from 1 up"),
        ({"peft_layers": "all"}, "peft_layers: 'all' is not possible"),
        ({"batches_per_encoding": 0}, "batches_per_encoding: 0 is not possible: it must be a whole number from 1 up"),
        ({"batches_per_encoding": True}, "batches_per_encoding: True is not possible"),
        ({"precision": "bf17"}, "Unknown precision 'bf17'. Did you mean 'bf16'"),
        ({"iisan_form": "author"}, "Unknown iisan_form 'author'. Did you mean 'authors'"),
        ({"precision": 16}, "Unknown precision"),
        ({"precision": None}, "Unknown precision"),
    ],
)
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(SettingError, match=message):
        make(values=values, model="PerPEFTSASRec")


@pytest.mark.parametrize("peft_type", ["LORA", "IISAN"])
def test_the_papers_settings_take_the_authors_iisan_and_relu_with_any_method(peft_type):
    config = Config("PerPEFTSASRec", "demo", [str(PROPERTIES / "variant" / "paper.yaml")], {"peft_type": peft_type})
    assert (config["iisan_form"], config["hidden_act"], config["layer_norm_eps"]) == ("authors", "relu", 1e-8)
    says = [sentence for sentence in without_effect(config) if sentence.startswith("iisan_form")]
    assert len(says) == (peft_type == "LORA")


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "SASRec"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": "abc"}, "learning_rate: 'abc' is not possible: it must be a number"),
        ({"learning_rate": -1}, "learning_rate: -1 is not possible: it must be a number from 0 up"),
        ({"learning_rate": float("nan")}, "learning_rate: nan is not possible"),
        ({"epochs": 1.5}, "epochs: 1.5 is not possible: it must be a whole number from 0 up"),
        ({"epochs": None}, "epochs: ~ is not possible"),
        ({"epochs": 0}, r"epochs: 0 is not possible: set 1 or more \(with warm_start 0 scores"),
        ({"train_batch_size": 0}, "train_batch_size: 0 is not possible"),
        ({"eval_batch_size": 0}, "eval_batch_size: 0 is not possible"),
        ({"eval_step": -1}, "eval_step: -1 is not possible: it must be a whole number from 0 up"),
        ({"metric_decimal_place": "x"}, "metric_decimal_place: 'x' is not possible"),
        ({"worker": -1}, "worker: -1 is not possible"),
        ({"n_heads": 3}, "n_heads: 3 is not possible with hidden_size: 64, which it must divide without a rest"),
        ({"n_layers": 0}, "n_layers: 0 is not possible"),
        ({"hidden_dropout_prob": 2}, "hidden_dropout_prob: 2 is not possible: it must be a number from 0 to 1"),
        ({"hidden_act": "gelo"}, "Unknown hidden_act 'gelo'. Did you mean 'gelu'"),
        ({"gpu_id": "abc"}, "gpu_id: 'abc' is not possible: write the number of a GPU"),
        ({"use_gpu": "maybe"}, "use_gpu: 'maybe' is not possible: it must be True or False"),
        ({"learner": "adamm"}, "Unknown learner 'adamm'. Did you mean 'adam'"),
        ({"state": "LOUD"}, "Unknown state 'LOUD'"),
        ({"clip_grad_norm": 5}, "clip_grad_norm: 5 is not possible: write {max_norm: 1.0}"),
        ({"rm_dup_inter": "frist"}, "Unknown rm_dup_inter 'frist'. Did you mean 'first'"),
        (
            {"user_inter_num_interval": "5"},
            r"user_inter_num_interval: '5' is no interval: write",
        ),
        ({"checkpoint_dir": None}, "checkpoint_dir: ~ is not possible: it must name a folder"),
        ({"load_col": 5}, "load_col: 5 is not possible"),
        ({"encoder": {"a": 1}}, "encoder: {'a': 1} is not possible: it must be a text"),
        ({"text_template": 3}, "text_template: 3 is not possible: it must be a text"),
        ({"load_col": {"itm": ["item_id"]}}, "Unknown file in load_col 'itm'. Did you mean 'item'"),
        (
            {"load_col": {"inter": ["user_id"]}},
            r"load_col: inter: .* leaves out 'item_id' \(ITEM_ID_FIELD\), which every",
        ),
        (
            {"numerical_features": "price"},
            r"numerical_features: 'price' .*must be a list, such as \[p",
        ),
        ({"seed": -1}, "seed: -1 is not possible: it must be a whole number from 0 to 4294967295"),
        ({"seed": 2**32}, "seed: 4294967296 is not possible"),
        ({"seed": "abc"}, "seed: 'abc' is not possible"),
        ({"seed": None}, "seed: ~ is not possible"),
    ],
)
def test_values_that_no_model_can_work_with_are_refused_before_loading(model, values, message):
    with pytest.raises(SettingError, match=message):
        make(values=values, model=model)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_neg_sample_args": 5}, "train_neg_sample_args: 5 is not possible"),
        ({"train_neg_sample_args": {"samplenum": 2}}, "Did you mean 'sample_num'"),
        ({"train_neg_sample_args": {"distribution": "unifrom"}}, "Did you mean 'uniform'"),
        ({"train_neg_sample_args": {"sample_num": 0}}, "sample_num: 0 is not possible"),
    ],
)
def test_negatives_of_recboles_models_that_cannot_be_are_refused(values, message):
    with pytest.raises(SettingError, match=message):
        make(values=values, model="BPR")


@pytest.mark.parametrize("values", [{"learner": "Adam"}, {"gpu_id": "0,1"}, {"seed": 2**32 - 1}, {"n_heads": 1}])
def test_values_that_recbole_takes_are_taken(values):
    make(values=values, model="SASRec")


def test_a_missing_logger_is_said_before_loading(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SettingError, match="log_wandb: True needs a package that is not installed: pip install wandb"):
        make(line=["--log_wandb=True"])


def test_columns_of_one_file_leave_those_of_the_others():
    config = make(values={"load_col": {"item": ["item_id", "title"]}})
    assert config["load_col"] == {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}


@pytest.mark.parametrize("seed", [2020, 42_949, 2**32 - 1])
def test_any_seed_trains(prepare, seed):
    _, trainer, train_data, _, _ = prepare(seed=seed)
    trainer.epochs = 2
    trainer._train_epoch(train_data, 1)
    assert torch.initial_seed() == (seed * 100_003 + 1) % 2**32
    assert (seed != 2020) or torch.initial_seed() == 202_006_061


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peft_type": "LORRA"}, "peft_type: 'LORRA' is not known. Did you mean 'LORA'"),
        ({"peft_type": "ADALORA"}, "peft_type: ADALORA cannot be used: "),
        ({"peft_type": "LORA", "peft_config": {"rank": 4}}, "peft_config: LORA has no field 'rank'"),
        ({"peft_type": "IISAN", "peft_config": {"state": 4}}, "IISAN has no field 'state'. Did you mean 'states'"),
    ],
)
def test_a_peft_method_that_cannot_work_is_refused_before_content_is_prepared(values, message):
    with pytest.raises(EncoderError, match=message):
        make(values=values, model="PerPEFTSASRec")
    make(values=values, model="SASRec")
    make(values={**values, "peft_type": "NONE"}, model="PerPEFTSASRec")


@pytest.mark.parametrize(
    ("word", "sentences"),
    [
        ("--train_batch_size=512", ["train_batch_size: 512 has no effect on PerPEFTSASRec: batches are made of users"]),
        ("--train_batch_size=2048", []),  # RecBole's default
        ("--train_neg_sample_args=~", ["train_neg_sample_args: None has no effect on PerPEFTSASRec: negatives are"]),
        ("--save_dataset=True", ["save_dataset: True has no effect on PerPEFTSASRec: the data are read from"]),
        ("--eval_batch_size=512", []),
    ],
)
def test_a_setting_of_recboles_that_changes_nothing_is_said(word, sentences):
    said = without_effect(make(line=[word], model="PerPEFTSASRec"))
    assert len(said) == len(sentences)
    assert all(one.startswith(start) for one, start in zip(said, sentences, strict=True))


def test_new_settings_arrive_from_the_command_line():
    line = [
        "--num_negatives=~",
        "--peft_layers=2",
        "--precision=bf16",
        "--batches_per_encoding=4",
        "--correct_sampling=true",
    ]
    config = make(line=line, model="PerPEFTSASRec")
    keys = ("num_negatives", "peft_layers", "precision", "batches_per_encoding", "correct_sampling")
    assert [config[key] for key in keys] == [None, 2, "bf16", 4, True]
    again = Config(config_dict=config.settings())
    assert [again[key] for key in keys] == [None, 2, "bf16", 4, True]


def test_recboles_sequential_models_run_with_their_own_loss_out_of_the_box():
    assert make(model="SASRec")["train_neg_sample_args"]["distribution"] == "none"
    assert make(model="BPR")["train_neg_sample_args"]["distribution"] == "uniform"


def test_settings_make_the_same_config_again():
    first = make(values={"epochs": 12, "peft_config": {"r": 2}}, line=["--seed=9"], model="PerPEFTSASRec")
    second = Config(config_dict=first.settings())
    assert first.final_config_dict == second.final_config_dict


def test_short_training_on_the_demo_is_for_perpeft_models_only():
    assert make(model="PerPEFTSASRec")["epochs"] == 40
    assert make(model="SASRec")["epochs"] == 300  # RecBole's own
    changed = make(model="PerPEFTSASRec", line=["--epochs=5"])
    assert (changed["epochs"], changed["global_epochs"]) == (5, 3)  # half, as everywhere else


@pytest.mark.parametrize(("use_gpu", "expected"), [(True, "cuda"), (False, "cpu")])
@pytest.mark.parametrize("model", ["PerPEFTSASRec", "SASRec"])
def test_a_gpu_is_used_if_it_is_to_be(monkeypatch, model, use_gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert Config(model, "demo", config_dict={"use_gpu": use_gpu})["device"].type == expected


def test_gpus_follow_from_the_processes_of_now_unless_they_are_given(monkeypatch):
    of_one = Config("SASRec", "demo").settings()
    monkeypatch.setattr(processes.state, "place", Place(0, 2, 0, 2, "localhost", 0))
    two = Config("SASRec", "demo", config_dict=of_one)
    assert two["gpu_id"] == "0,1"
    assert Config("SASRec", "demo", config_dict={**of_one, "gpu_id": "3,5"}).settings()["gpu_id"] == "3,5"
    monkeypatch.setattr(processes.state, "place", None)
    assert Config("SASRec", "demo", config_dict=two.settings())["gpu_id"] == "0"
