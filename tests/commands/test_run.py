"""The command line: what it runs, and one clear line on a mistake."""

import json
from pathlib import Path

import pytest
import yaml

from recbole_perpeft.commands.run import main
from tests.tiny_data import random_sequences, write_atomic
from tests.tiny_models import save_tiny_bert, save_tiny_vit


@pytest.fixture
def words(tiny, tmp_path):
    """``words(model=..., **settings)`` gives the command line of a tiny run, most settings in a YAML file."""

    def make(model="PerPEFTSASRec", dataset="tiny", **settings):
        plain = {k: v for k, v in tiny().external_config_dict.items() if k not in ("model", "dataset")}
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(plain))
        line = [f"--model={model}", f"--dataset={dataset}", f"--config_files={tmp_path / 'tiny.yaml'}"]
        return line + [f"--{key}={value}" for key, value in settings.items()]

    return make


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "SASRec", "BPR"])
def test_a_run_ends_with_a_test_score_and_says_where_things_are(words, capfd, tmp_path, model):
    result = main(words(model))
    assert result["test_result"]["hit@10"] >= 0
    said = capfd.readouterr().err
    assert "test result" in said
    written = said.splitlines()[-1]
    assert "Written: log" in written
    checkpoint = Path(written.split("checkpoint ")[1].split(",")[0])
    assert (tmp_path / checkpoint).is_file()
    json.dumps(result)  # plain numbers


def test_a_batch_size_that_changes_nothing_is_said_to_perpeft_models_only(words, capfd):
    for model, warned in (("PerPEFTBPR", True), ("BPR", False)):
        main(words(model, train_batch_size=64, loss_type="~" if warned else "BPR"))
        assert ("train_batch_size: 64 has no effect on PerPEFTBPR" in capfd.readouterr().err) == warned


def fails(capfd, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "PerPEFTSASRek"}, "Did you mean 'PerPEFTSASRec'?"),
        ({"dataset": "tinny"}, "tinny does not exist. Data sets there: "),
        ({"num_grups": 3}, "Unknown setting 'num_grups'. Did you mean 'num_groups'?"),
        ({"num_groups": 0}, "num_groups: 0 is not possible"),
        ({"num_groups": 41}, "num_groups: 41 is more than the 40 users"),
        ({"encoder": "no/such-model"}, "no/such-model"),
        ({"text_fields": "[name]"}, "name"),
        ({"image_dir": "nowhere"}, "set `image_dir`"),
        ({"peft_config": "{target_modules: [nothing]}"}, "nothing"),
        ({"peft_config": "{rank: 3}"}, "rank"),
        ({"peft_type": "LORAA"}, "LORA"),
        ({"resume": "saved/none.pth"}, "saved/none.pth does not exist"),
        ({"text_template": "{titel}"}, "titel"),
        ({"modalities": "[image,sound]"}, "sound"),
    ],
)
def test_a_mistake_is_one_clear_line(words, capfd, settings, message):
    line = fails(capfd, words(**settings))
    assert message in line
    assert line.split(":")[0].endswith("Error")


def test_too_many_groups_are_refused_before_any_training(words, capfd, tmp_path):
    fails(capfd, words(num_groups=41))
    assert not list(tmp_path.glob("saved/*"))


def test_an_encoder_pair_and_neutral_stand_ins(words, tiny_root, tmp_path):
    place = write_atomic(tmp_path / "pair", "tiny", *random_sequences())
    (place / "images" / "i3.png").unlink()
    settings = {"data_path": tmp_path / "pair", "image_encoder": save_tiny_vit(tmp_path / "vit")}
    settings |= {"text_encoder": save_tiny_bert(tmp_path / "bert"), "missing_content": "neutral"}
    assert main(words(**settings))["test_result"]
