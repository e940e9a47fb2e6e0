"""From a checkpoint alone: going on, measuring again, and what a run that ended before its time says about it."""

import shlex
from pathlib import Path

import pytest
import torch

from recbole_perpeft.commands.run import main
from recbole_perpeft.quick_start import load, run
from recbole_perpeft.trainer.trainer import PerPEFTTrainer
from recbole_perpeft.utils.errors import CheckpointError, MisfitError
from tests.matrix import slow


@pytest.fixture
def given(tiny):
    """``given(model, **settings)`` gives what a user writes of a tiny run; the rest are defaults."""
    return lambda model="PerPEFTSASRec", **settings: tiny(model, **settings).external_config_dict | {
        "model": model, "dataset": "tiny",
    }  # fmt: skip


def interrupted(monkeypatch, settings, epoch, error=KeyboardInterrupt):
    """Run until an epoch's checkpoint is written (-1: before any)."""
    write, train_epoch = PerPEFTTrainer._write, PerPEFTTrainer._train_epoch

    def written(trainer, at):
        write(trainer, at)
        if at == epoch:
            raise error

    def begun(trainer, *args, **kwargs):
        if epoch < 0:
            raise error
        return train_epoch(trainer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PerPEFTTrainer, "_write", written)
        patch.setattr(PerPEFTTrainer, "_train_epoch", begun)
        patch.setattr("recbole_perpeft.quick_start.run", lambda *args, **kwargs: run(config_dict=settings))
        with pytest.raises(SystemExit) as stop:
            main([])
    return stop.value.code


def test_an_interrupted_run_prints_the_command_that_ends_as_if_it_never_was(given, monkeypatch, capfd):
    whole = run(config_dict=given(grouping="kmeans", group_negatives=False))
    capfd.readouterr()
    settings = given(grouping="kmeans", group_negatives=False, epochs=4)
    assert interrupted(monkeypatch, settings, epoch=2) == 130
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("Interrupted. To go on from its checkpoint: python run_recbole_perpeft.py --resume=saved/")
    words = shlex.split(said.split("run_recbole_perpeft.py ")[1])
    file = words[0].removeprefix("--resume=")
    result = main(words)
    assert result.pop("checkpoint") == file
    assert whole.pop("checkpoint") != file
    assert {key: result[key] for key in ("best_valid_score", "best_valid_result", "test_result")} == {
        key: whole[key] for key in ("best_valid_score", "best_valid_result", "test_result")
    }
    again = main([*words, "--epochs=5", "--model=PerPEFTSASRec"])
    assert again["checkpoint"] == file
    assert "epochs: 4 in the checkpoint, 5 now" in capfd.readouterr().err
    for word, named in (
        ("--hidden_size=32", "hidden_size: 16 in the checkpoint, 32 now"),
        ("--topk=[3]", r"topk: [5, 10] in the checkpoint, [3] now"),
        ("--eval_args={'mode': 'uni10'}", "eval_args: "),
        ("--model=PerPEFTGRU4Rec", "model: PerPEFTSASRec in the checkpoint, PerPEFTGRU4Rec now"),
        ("--dataset=demo", "dataset: tiny in the checkpoint, demo now"),
    ):
        with pytest.raises(SystemExit):
            main([*words, word, *(["--valid_metric=NDCG@3"] if "topk" in word else [])])
        said = capfd.readouterr().err.splitlines()[-1]
        assert f"MisfitError: Checkpoint {file} does not fit this run. {named}" in said


@pytest.mark.parametrize(
    ("epoch", "error", "code", "said"),
    [
        (-1, KeyboardInterrupt, 130, "Interrupted. No checkpoint was written yet: the same command begins anew."),
        (-1, CheckpointError("full."), 2, "CheckpointError: full."),
        (0, CheckpointError("full."), 2, "CheckpointError: full. To go on from its checkpoint: python run_recbole_"),
    ],
)
def test_what_ends_a_run_says_whether_there_is_a_checkpoint(given, monkeypatch, capfd, epoch, error, code, said):
    assert interrupted(monkeypatch, given(epochs=1, global_epochs=1), epoch, error) == code
    assert capfd.readouterr().err.splitlines()[-1].startswith(said)


def test_another_protocol_measures_but_does_not_train_on(given, caplog, capfd):
    file = run(config_dict=given(epochs=1, global_epochs=1))["checkpoint"]
    _, trainer, train_data, valid_data, test_data = load(file, {"topk": [3], "valid_metric": "NDCG@3"})
    assert "topk: [5, 10] in the checkpoint, [3] now" in caplog.text + capfd.readouterr().err
    assert trainer.evaluate(test_data).keys() == {"ndcg@3", "recall@3", "hit@3"}
    with pytest.raises(CheckpointError, match="which was loaded to be measured in another way"):
        trainer.fit(train_data, valid_data, verbose=False)


@pytest.mark.parametrize("model", ["SASRec", slow("LightGCN"), "Pop", slow("ItemKNN"), "RecVAE"])
def test_a_checkpoint_of_a_model_of_recbole_gives_the_printed_score(given, tiny, model):
    result = run(config_dict=given(model, epochs=2, metric_decimal_place=9))
    assert Path(result["checkpoint"]).name.startswith(f"{model}-tiny-")
    config, trainer, _, _, test_data = load(result["checkpoint"])
    assert (config["model"], config["seed"]) == (model, 2020)
    assert {name: float(value) for name, value in trainer.evaluate(test_data).items()} == result["test_result"]
    with pytest.raises(MisfitError, match="user_sample: ~ in the checkpoint, 20 now"):
        load(result["checkpoint"], {"user_sample": 20})


def test_a_checkpoint_of_a_model_of_recbole_goes_on_by_itself_and_knows_its_data(given, tiny_root, tmp_path):
    file = run(config_dict=given("SASRec", epochs=1))["checkpoint"]
    assert run(command_line=[f"--resume={file}", "--epochs=3"])["checkpoint"] == file
    place = tmp_path / "other" / "tiny"
    place.mkdir(parents=True)
    lines = (tiny_root / "tiny" / "tiny.inter").read_text().splitlines()
    (place / "tiny.inter").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    with pytest.raises(MisfitError, match="dataset hash: .* are not those of then"):
        load(file, {"data_path": str(place.parent)})


def test_a_pickle_that_is_no_checkpoint_is_not_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"config": Evil(), "state_dict": {}}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="is no checkpoint of a PerPEFT model, or is damaged"):
        load(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_of_another_program_is_named_without_advice_to_run_it(tmp_path):
    for name, content in (("pickle", {"state_dict": Path("x")}), ("number", 3)):
        torch.save(content, tmp_path / name)
        with pytest.raises(CheckpointError, match="is no checkpoint of ") as refused:
            load(tmp_path / name)
        assert "\n" not in str(refused.value)
        assert "trust" not in str(refused.value)


def test_a_checkpoint_that_recbole_cannot_train_on_from_says_so(given):
    file = run(config_dict=given("RecVAE", epochs=1))["checkpoint"]
    with pytest.raises(CheckpointError, match="cannot be trained on from: .*RecVAE's optimiser"):
        run(config_dict={"resume": file, "epochs": 2})
