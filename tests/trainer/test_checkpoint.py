"""What a checkpoint holds, and what it is refused for."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_perpeft.quick_start import load, run
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.utils.errors import CheckpointError
from tests.interpreter import in_a_fresh_interpreter
from tests.matrix import slow
from tests.tiny_models import save_tiny_clip
from tests.training import FAST, fit


def test_a_checkpoint_is_small_and_names_what_it_left_out(recorded):
    trainer, *_ = run = recorded()
    state = checkpoint_file.read(run.checkpoint(3))
    foundation = trainer.model.item_tower.encoder.foundation
    assert not any("position_ids" in key or "base_layer.weight" in key for key in state["state_dict"])
    trained = sum(p.numel() for p in trainer.model.trainable_parameters())
    assert sum(value.numel() for value in state["state_dict"].values()) < 1.1 * trained
    assert state["identity"]["encoder hash"] == foundation.fingerprint()


@pytest.mark.slow  # tests of an encoder that moved and of runs that go on in new processes see most of it
def test_a_fresh_process_elsewhere_gives_the_same_test_score(tiny, tiny_root, tmp_path):
    result = run(config_dict=tiny(num_groups=2, epochs=2, global_epochs=1).settings())
    there = tmp_path / "there"  # another machine, to which all was copied
    shutil.copytree(tiny_root / "tiny", there / "data" / "tiny")
    (there / "data" / "tiny" / "clip").rename(there / "encoder")
    shutil.copy(result["checkpoint"], there / "a.pth")
    places = {"data_path": "data", "encoder": "encoder", "content_cache": "cache"}
    code = (
        "import sys; from recbole_perpeft.quick_start import load; import torch; torch.set_num_threads(1);"
        f"_, trainer, _, _, test = load('a.pth', {places}); print(dict(trainer.evaluate(test)))"
    )
    printed = eval(in_a_fresh_interpreter(code, there).splitlines()[-1], {"np": np})
    assert {key: float(value) for key, value in printed.items()} == result["test_result"]
    assert list((there / "cache").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_groups": 2}, "num_groups: 3 in the checkpoint, 2 now"),
        ({"peft_type": "IA3", "peft_config": {}}, "peft_type: LORA in the checkpoint, IA3 now"),
        ({"peft_layers": 1}, "peft_layers: 3 in the checkpoint, 1 now"),
        ({"user_sample": 20}, "user_sample: ~ in the checkpoint, 20 now"),
        ({"encoder": "other"}, "encoder hash: .* in the checkpoint, .* The encoder's weights or configuration are not"),
        ({"modalities": ["text"]}, r"modalities: \['image', 'text'\] in the checkpoint, \['text'\] now"),
        ({"hidden_size": 32}, "hidden_size: 16 in the checkpoint, 32 now. A checkpoint brings its own settings: leave"),
        ({"valid_metric": "Recall@5"}, "valid_metric: NDCG@10 in the checkpoint, Recall@5 now"),
        ({"text_fields": ["brand"]}, r"text_fields: \['title'\] in the checkpoint, \['brand'\] now"),
        (
            {"learner": "sgd", "seed": 1},
            "learner: adamw in the checkpoint, sgd now; seed: 2020 in the checkpoint, 1 now",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(prepare, recorded, tiny_root, change, message):
    if "encoder" in change and not (tiny_root / "tiny" / "other").exists():
        torch.manual_seed(1)
        folder = save_tiny_clip(tiny_root / "tiny" / "other")
        from transformers import CLIPModel

        model = CLIPModel.from_pretrained(folder)
        with torch.no_grad():
            model.visual_projection.weight.add_(0.1)
        model.save_pretrained(folder)
    short = {"epochs": 1, "global_epochs": 1}
    _, other, *_ = prepare(**short | change)
    with pytest.raises(CheckpointError, match=message):
        other.resume_checkpoint(recorded(**short).checkpoint(0))


@pytest.mark.parametrize("settings", [{}, slow(FAST)])
def test_an_encoder_may_move(recorded, tiny_root, tmp_path, settings):
    run = recorded(**settings, soft_groups=False)  # whose shares are found after the last epoch
    moved = shutil.copytree(tiny_root / "tiny" / "clip", tmp_path / "elsewhere")
    _, again, _, _, test_data = load(run.checkpoint(3), {"encoder": str(moved)})
    assert again.evaluate(test_data) == run.result


def test_files_that_are_no_checkpoint_are_refused(prepare, tmp_path):
    _, trainer, *_ = prepare()
    with pytest.raises(CheckpointError, match="does not exist"):
        trainer.resume_checkpoint(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(CheckpointError, match="is damaged"):
        load(tmp_path / "text.pth")
    torch.save({"a": 1}, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match="no checkpoint of this version"):
        load(tmp_path / "foreign.pth")


def test_a_full_disk_says_which_file_and_keeps_the_one_before(tmp_path, monkeypatch):
    file = tmp_path / "a.pth"
    checkpoint_file.write(file, {"epoch": 1})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_file.torch, "save", full)
    with pytest.raises(CheckpointError, match="a.pth cannot be written: .*No space left.*or set checkpoint_dir"):
        checkpoint_file.write(file, {"epoch": 2})
    assert checkpoint_file.read(file, holds="epoch")["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_resuming_through_a_setting(tiny, tmp_path):
    short = {"num_groups": 2, "epochs": 2, "global_epochs": 1, "content_term": False, "l2_emb": 0.1}  # whose groups pay
    first = run(config_dict=tiny(**short).settings())
    file = next(path for path in (tmp_path / "saved").iterdir() if path.suffix == ".pth")
    again = run(config_dict=tiny(**short, resume=str(file)).settings())
    for result in (first, again):
        assert os.path.samefile(result.pop("checkpoint"), file)
        del result["seconds"]  # of each process
    assert again == first


def test_a_checkpoint_without_notes_is_resumed_with_none(prepare):
    trainer, _ = fit(prepare, epochs=1, global_epochs=1)
    state = checkpoint_file.read(trainer.saved_model_file)
    assert state.pop("notes") == {}
    checkpoint_file.write(trainer.saved_model_file, state)  # as those of before there were any
    _, again, *_ = prepare(epochs=1, global_epochs=1)
    again.resume_checkpoint(trainer.saved_model_file)
    assert again.notes == {}
    assert again.start_epoch == 1


def test_a_checkpoint_with_settings_that_are_gone_opens_and_the_log_names_them(tiny, caplog):
    short = {"num_groups": 1, "epochs": 1, "global_epochs": 1}
    result = run(config_dict=tiny(**short).settings())
    state = checkpoint_file.read(result["checkpoint"])
    state["settings"]["share_items"] = False
    checkpoint_file.write(result["checkpoint"], state)  # as one of before it went
    _, trainer, _, _, test_data = load(result["checkpoint"])
    assert trainer.evaluate(test_data) == pytest.approx(result["test_result"], abs=1e-4)
    assert "has settings that this build does not know: share_items." in caplog.text


def test_a_checkpoint_that_scored_by_a_setting_that_is_gone_is_refused(tiny, caplog):
    result = run(config_dict=tiny(num_groups=1, epochs=1, global_epochs=1).settings())
    state = checkpoint_file.read(result["checkpoint"])
    state["settings"]["group_mixing"] = 0
    checkpoint_file.write(result["checkpoint"], state)
    load(result["checkpoint"])
    assert "does not know" not in caplog.text
    state["settings"]["group_mixing"] = 0.5
    checkpoint_file.write(result["checkpoint"], state)
    with pytest.raises(CheckpointError, match="was made with group_mixing: 0.5, which is gone"):
        load(result["checkpoint"])


@pytest.mark.parametrize("model", ["PerPEFTSASRec", slow("PerPEFTLightGCN")])
def test_a_checkpoint_of_before_there_were_settings_is_scored_as_it_was(tiny, model):
    then = {"content_term": False, "soft_groups": False, "grow_history": False}
    if model == "PerPEFTLightGCN":
        then |= {"loss_type": "BPR", "similar_items": None, "num_negatives": 1}
    result = run(config_dict=tiny(model=model, epochs=1, global_epochs=1, **then).settings())
    state = checkpoint_file.read(result["checkpoint"])
    for key in then.keys() - {"num_negatives"}:  # which there was
        del state["settings"][key]
    checkpoint_file.write(result["checkpoint"], state)
    config, trainer, _, _, test_data = load(result["checkpoint"])
    assert {key: config[key] for key in then} == then
    assert trainer.evaluate(test_data) == pytest.approx(result["test_result"])


def test_the_log_of_a_run_that_goes_on_names_the_settings_that_are_gone(tiny):
    short = {"num_groups": 1, "epochs": 1, "global_epochs": 1}
    result = run(config_dict=tiny(**short).settings())
    state = checkpoint_file.read(result["checkpoint"])
    state["settings"]["share_items"] = False
    checkpoint_file.write(result["checkpoint"], state)
    before = set(Path("log").glob("*/*.log"))
    run(config_dict={"resume": result["checkpoint"]})
    (log,) = set(Path("log").glob("*/*.log")) - before
    assert "has settings that this build does not know: share_items." in log.read_text()


def test_runs_of_the_same_second_do_not_write_one_file(prepare):
    runs = [prepare(epochs=1, global_epochs=1, seed=seed) for seed in (1, 2)]
    for _, trainer, train_data, valid_data, _ in runs:
        trainer.saved_model_file = runs[0][1].saved_model_file
        trainer.fit(train_data, valid_data, verbose=False)
    first, second = (trainer.saved_model_file for _, trainer, *_ in runs)
    assert second == first.replace(".pth", "-2.pth")
    assert [checkpoint_file.read(file)["settings"]["seed"] for file in (first, second)] == [1, 2]


def test_a_first_write_that_fails_leaves_no_empty_file(prepare, tmp_path):
    _, trainer, train_data, valid_data, _ = prepare(epochs=1, global_epochs=1)
    file = tmp_path / "saved" / f"{'a' * 250}.pth"  # too long with what is put to it meanwhile
    trainer.saved_model_file = str(file)
    with pytest.raises(CheckpointError, match="cannot be written: .*File name too long"):
        trainer.fit(train_data, valid_data, verbose=False)
    assert list(file.parent.iterdir()) == []
