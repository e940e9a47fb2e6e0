"""Where settings come from, what they may be, and what a mistake says."""

from pathlib import Path

import pytest
import torch

from recbole_perpeft.config import (
    PROPERTIES,
    RECBOLE_PROPERTIES,
    YAML_LOADER,
    Config,
    find_model,
    known_settings,
    parse_value,
)
from recbole_perpeft.encoder import EncoderError
from recbole_perpeft.errors import SettingError


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


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("encoder", "re", "re"),  # RecBole's eval() would find a module here
        ("encoder", "1/0", "1/0"),  # and raise here
        ("dataset", "2020", "2020"),
        ("dataset", "amazon-2023", "amazon-2023"),
        ("image_encoder", "google/vit-base", "google/vit-base"),
        ("peft_type", "LORA", "LORA"),
        ("topk", "[5, 10]", [5, 10]),
        ("topk", "[5,10]", [5, 10]),
        ("text_fields", "[title,brand]", ["title", "brand"]),
        ("text_fields", "['a', 'b']", ["a", "b"]),
        ("peft_config", "{'r': 8, 'lora_alpha': 16}", {"r": 8, "lora_alpha": 16}),
        ("peft_config", "{r: 8, target_modules: [q_proj]}", {"r": 8, "target_modules": ["q_proj"]}),
        ("learning_rate", "1e-3", 0.001),
        ("layer_norm_eps", "1e-8", 1e-8),
        ("group_negatives", "false", False),
        ("train_neg_sample_args", "None", None),
        ("rm_dup_inter", "~", None),
        ("text_template", "{title}, by {brand}", "{title}, by {brand}"),
        ("epochs", "__import__('os').getpid()", "__import__('os').getpid()"),
    ],
)
def test_values_arrive_as_they_were_typed(key, text, value):
    assert parse_value(key, text, known_settings().get(key)) == value


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
        import yaml

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


@pytest.mark.parametrize(("name", "near"), [("PerPEFTSASrec", "PerPEFTSASRec"), ("GRU4Rc", "GRU4Rec")])
def test_an_unknown_model_names_the_nearest(name, near):
    with pytest.raises(SettingError, match=f"Unknown model '{name}'. Did you mean '{near}'"):
        make(model=name)


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
        ({"group_sharing": 1.5}, "group_sharing: 1.5 is not possible: it must be a number from 0 to 1"),
        ({"group_mixing": 2}, "group_mixing: 2 is not possible: it must be a number from 0 to 1"),
        ({"catalogue_negatives": -0.1}, "catalogue_negatives: -0.1 is not possible: it must be a number from 0 to 1"),
        (
            {"catalogue_negatives": 0.5, "num_negatives": None},
            "catalogue_negatives: 0.5 is not possible with num_negat",
        ),
        ({"correct_sampling": True, "loss_type": "BPR"}, "correct_sampling: True is not possible with loss_type: BPR"),
        ({"averaging_epochs": 0}, "averaging_epochs: 0 is not possible: it must be a number above 0, or ~"),
        ({"peft_learning_rate": -1}, "peft_learning_rate: -1 is not possible"),
        ({"loss_type": "BRP"}, "Unknown loss_type 'BRP'. Did you mean 'BPR'"),
        ({"grouping": "kmean"}, "Unknown grouping 'kmean'. Did you mean 'kmeans'"),
        ({"prefix_window": "first"}, "Unknown prefix_window 'first'"),
        ({"missing_content": "ignore"}, "Unknown missing_content 'ignore'"),
        ({"num_negatives": None, "loss_type": "BPR"}, "num_negatives: ~ is not possible with loss_type: BPR. Set 1"),
        ({"num_negatives": None, "loss_type": "BCE"}, "num_negatives: ~ is not possible with loss_type: BCE. Set 1"),
        ({"num_negatives": -1}, "num_negatives: -1 is not possible: it must be a whole number from 0 up"),
        ({"peft_layers": 0}, "peft_layers: 0 is not possible: it must be a whole number from 1 up"),
        ({"peft_layers": "all"}, "peft_layers: 'all' is not possible"),
        ({"batches_per_encoding": 0}, "batches_per_encoding: 0 is not possible: it must be a whole number from 1 up"),
        ({"batches_per_encoding": True}, "batches_per_encoding: True is not possible"),
        ({"precision": "bf17"}, "Unknown precision 'bf17'. Did you mean 'bf16'"),
        ({"precision": 16}, "Unknown precision"),
        ({"precision": None}, "Unknown precision"),
    ],
)
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(SettingError, match=message):
        make(values=values, model="PerPEFTSASRec")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peft_type": "LORRA"}, "peft_type: 'LORRA' is not known. Did you mean LORA"),
        ({"peft_type": "ADALORA"}, "peft_type: ADALORA cannot be used: "),
        ({"peft_type": "LORA", "peft_config": {"rank": 4}}, "peft_config: LORA has no field 'rank'"),
        ({"peft_type": "IISAN", "peft_config": {"state": 4}}, "IISAN has no field 'state'. Did you mean states"),
    ],
)
def test_a_peft_method_that_cannot_work_is_refused_before_content_is_prepared(values, message):
    with pytest.raises(EncoderError, match=message):
        make(values=values, model="PerPEFTSASRec")
    make(values=values, model="SASRec")
    make(values={**values, "peft_type": "NONE"}, model="PerPEFTSASRec")


def test_new_settings_arrive_from_the_command_line():
    line = [
        "--num_negatives=~",
        "--peft_layers=2",
        "--precision=bf16",
        "--batches_per_encoding=4",
        "--share_items=true",
    ]
    config = make(line=line, model="PerPEFTSASRec")
    keys = ("num_negatives", "peft_layers", "precision", "batches_per_encoding", "share_items")
    assert [config[key] for key in keys] == [None, 2, "bf16", 4, True]
    again = Config(config_dict=config.settings())
    assert [again[key] for key in keys] == [None, 2, "bf16", 4, True]


def test_recboles_sequential_models_run_with_their_own_loss_out_of_the_box():
    assert make(model="SASRec")["train_neg_sample_args"]["distribution"] == "none"
    assert make(model="BPR")["train_neg_sample_args"]["distribution"] == "uniform"


def test_our_overall_settings_leave_recboles_model_settings_alone():
    import yaml

    ours = set(yaml.safe_load((PROPERTIES / "overall.yaml").read_text()))
    for file in (RECBOLE_PROPERTIES / "model").glob("*.yaml"):
        assert not ours & set(yaml.safe_load(file.read_text()) or {}), file.name


def test_every_setting_of_ours_has_a_comment():
    for file in [PROPERTIES / "overall.yaml", *(PROPERTIES / "model").glob("*.yaml")]:
        for line in file.read_text().splitlines():
            if line[:1].isalpha():
                assert "#" in line, f"{file.name}: {line}"


def test_settings_make_the_same_config_again():
    first = make(values={"epochs": 12, "peft_config": {"r": 2}}, line=["--seed=9"], model="PerPEFTSASRec")
    second = Config(config_dict=first.settings())
    assert first.final_config_dict == second.final_config_dict


def test_short_training_on_the_demo_is_for_perpeft_models_only():
    assert make(model="PerPEFTSASRec")["epochs"] == 40
    assert make(model="SASRec")["epochs"] == 300  # RecBole's own
    changed = make(model="PerPEFTSASRec", line=["--epochs=5"])
    assert (changed["epochs"], changed["global_epochs"]) == (5, 2)  # a third, as everywhere else


def test_a_backbone_without_item_table_is_refused_with_the_reason():
    with pytest.raises(SettingError, match="RecBole's EASE has none.*one of: SASRec, GRU4Rec.*LightGCN"):
        find_model("PerPEFTEASE")


@pytest.mark.parametrize(("use_gpu", "expected"), [(True, "cuda"), (False, "cpu")])
@pytest.mark.parametrize("model", ["PerPEFTSASRec", "SASRec"])
def test_a_gpu_is_used_if_it_is_to_be(monkeypatch, model, use_gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert Config(model, "demo", config_dict={"use_gpu": use_gpu})["device"].type == expected
