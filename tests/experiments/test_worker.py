"""A run: what it measures, and that it ends the same however it came about: killed, or with the stage 1 of another."""

import math
import shutil

import numpy as np
import pytest

from recbole_perpeft.config import Config
from recbole_perpeft.experiments import worker
from recbole_perpeft.experiments.output_folder import output_folder
from recbole_perpeft.experiments.run import Run
from recbole_perpeft.experiments.scheduler import do_runs
from recbole_perpeft.experiments.worker import measure
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer.trainer import PerPEFTTrainer
from tests.config.test_identity import other_titles
from tests.matrix import slow
from tests.training import Killed


def test_a_run_measures_what_the_model_does(common):
    config = Config("PerPEFTSASRec", "tiny", config_dict={**common, "seed": 3, "metric_decimal_place": 9})
    result = measure(config, test=True)
    parameters = result["parameters"]
    assert parameters["trained"] > parameters["peft"] > 0
    assert result["epochs"] == 2
    gains = [1 / math.log2(rank + 1) if rank <= 10 else 0 for rank in result["ranks"].values()]
    assert result["test"]["ndcg@10"] == pytest.approx(np.mean(gains), abs=1e-6)
    hits = [rank <= 5 for rank in result["ranks"].values()]
    assert result["test"]["hit@5"] == pytest.approx(np.mean(hits), abs=1e-6)
    assert "test" not in measure(config, test=False)


def killed_after(epoch, config, unfinished, monkeypatch):
    """Measure until that epoch's checkpoint is written."""
    write = PerPEFTTrainer._write

    def dies(trainer, at):
        write(trainer, at)
        if at == epoch:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PerPEFTTrainer, "_write", dies)
        with pytest.raises(Killed):
            measure(config(), test=True, unfinished=unfinished)


@pytest.mark.parametrize("epoch", [slow(0), 2])
def test_a_run_that_was_killed_goes_on_and_measures_what_it_would_have(common, tmp_path, monkeypatch, epoch):
    def config():
        return Config("PerPEFTSASRec", "tiny", config_dict={**common, "epochs": 4, "global_epochs": 2, "seed": 3})

    whole = measure(config(), test=True)
    unfinished = tmp_path / "run.pth"
    killed_after(epoch, config, unfinished, monkeypatch)
    noted = checkpoint_file.read(unfinished)["notes"]
    assert [number for number, _ in noted["epochs"]] == list(range(epoch + 1))
    trained, train_epoch = [], PerPEFTTrainer._train_epoch

    def watched(trainer, data, number, **kwargs):
        trained.append(number)
        return train_epoch(trainer, data, number, **kwargs)

    monkeypatch.setattr(PerPEFTTrainer, "_train_epoch", watched)
    result = measure(config(), test=True, unfinished=unfinished)
    assert trained == list(range(epoch + 1, 4))
    for same in ("valid", "test", "ranks", "data", "epochs", "best_epoch", "parameters"):
        assert result[same] == whole[same], same
    assert result["seconds"] > noted["seconds"]
    assert result["peak_memory_mib"] >= noted["peak_memory_mib"] > 50


def test_what_was_begun_with_other_titles_or_by_another_build_is_begun_anew(
    common, tiny_root, tmp_path, monkeypatch, caplog
):
    shutil.copytree(tiny_root / "tiny", tmp_path / "copy" / "tiny")
    places = {"data_path": str(tmp_path / "copy"), "content_cache": str(tmp_path / "cache")}

    def config():
        return Config("PerPEFTSASRec", "tiny", config_dict={**common, **places, "epochs": 1, "num_groups": 1})

    unfinished = tmp_path / "run.pth"
    killed_after(0, config, unfinished, monkeypatch)
    other_titles(tmp_path / "copy" / "tiny")
    anew = measure(config(), test=True, unfinished=unfinished)
    assert f"{unfinished} does not fit this run. content hash: " in caplog.text
    assert "It is begun anew." in caplog.text
    assert anew["test"] == measure(config(), test=True)["test"]
    monkeypatch.setattr(worker, "sources_hash", lambda: "0123456789abcdef")
    measure(config(), test=True, unfinished=unfinished, keep_other_builds=True)
    assert "another build of recbole_perpeft: begun anew" not in caplog.text
    measure(config(), test=True, unfinished=unfinished, keep_other_builds=False)
    assert "another build of recbole_perpeft: begun anew" in caplog.text


def test_runs_go_on_with_the_checkpoint_that_a_killed_one_has_left(common, tmp_path, monkeypatch, capsys):
    run = Run("perpeft, seed 3", "PerPEFTSASRec", "tiny", {**common, "seed": 3})
    with output_folder(tmp_path / "out") as folder:
        unfinished, log = folder / "runs" / f"{run.file}.pth", folder / "logs" / f"{run.file}.log"
        settings = {**run.settings, "show_progress": False}
        killed_after(0, lambda: Config(run.model, run.dataset, config_dict=settings), unfinished, monkeypatch)
        log.write_text("epoch 0, of the killed process\n")
        (result,), failures = do_runs([run], folder)
        assert not failures
        assert [file.name for file in (folder / "runs").iterdir()] == [f"{run.file}.json"]
    assert result["epochs"] == 2
    assert "run 1 of 1: perpeft, seed 3 ... goes on ... valid" in capsys.readouterr().out
    lines = log.read_text().splitlines()
    assert lines[0] == "epoch 0, of the killed process"
    assert sum("training [" in line for line in lines) == 1
    assert any("Resuming" in line and "from epoch 1" in line for line in lines)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_gone_on_with_is_named(common, tmp_path):
    run = Run("one", "PerPEFTSASRec", "tiny", common)
    with output_folder(tmp_path / "out") as folder:
        unfinished = folder / "runs" / f"{run.file}.pth"
        unfinished.write_bytes(b"half a file")
        _, (failure,) = do_runs([run], folder)
    assert f"CheckpointError: {unfinished} is no checkpoint" in failure
    assert f"(log {folder}/logs/{run.file}.log)" in failure
    assert "Delete it to begin anew." in failure


@pytest.mark.slow
def test_runs_that_differ_in_their_groups_train_stage_1_once(common, in_this_process, tmp_path):
    groups = {"perpeft": {}, "hard groups": {"soft_groups": False}, "two": {"num_groups": 2}, "one": {"num_groups": 1}}
    runs = [Run(name, "PerPEFTSASRec", "tiny", {**common, **own, "epochs": 3}) for name, own in groups.items()]
    with output_folder(tmp_path / "out") as folder:
        results, failures = do_runs(runs, folder)
        assert not failures
        (stage_1,) = (folder / "stage_1").iterdir()
        logs = [(folder / "logs" / f"{run.file}.log").read_text() for run in runs]
        assert [log.count("training [") for log in logs] == [3, 2, 2, 2]
        said = f"Stage 1 was trained by a run before, best in epoch 0: {stage_1}."
        assert [said in log for log in logs] == [False, True, True, True]
        for run, result in zip(runs, results, strict=True):
            alone = measure(Config(run.model, run.dataset, config_dict=run.settings), test=True)
            for same in ("valid", "test", "ranks", "data", "epochs", "best_epoch", "parameters"):
                assert result[same] == alone[same], (run.name, same)
        stage_1.write_bytes(b"half a file")
        _, (failure,) = do_runs([Run("four", "PerPEFTSASRec", "tiny", {**runs[0].settings, "num_groups": 4})], folder)
    assert f"CheckpointError: {stage_1} is no checkpoint" in failure
    assert "Delete it to begin anew." in failure
