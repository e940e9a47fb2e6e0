"""The command line with several processes: started here or by torchrun, on two machines, and one of them killed."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from recbole_perpeft.commands.run import main
from recbole_perpeft.quick_start import load
from recbole_perpeft.utils.launch import places
from tests.interpreter import ROOT
from tests.together import PLAIN

SCRIPT = str(ROOT / "run_recbole_perpeft.py")
ENDLESS = ["--epochs=10000", "--stopping_step=10000"]


@pytest.fixture
def words(tiny, tmp_path):
    """The command line of a tiny run of a model."""
    plain = {k: v for k, v in tiny().external_config_dict.items() if k not in ("model", "dataset")}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**plain, **PLAIN, "epochs": 2, "global_epochs": 1}))
    return lambda model: [f"--model={model}", "--dataset=tiny", f"--config_files={tmp_path / 'tiny.yaml'}"]


def started(command, folder):
    """A process of ``command``, in a folder of its own, whose output goes to the file ``said`` there."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )


def free_port():
    return places(2, -1, None, None, 0)[0].port


def children_with_rank(rank, parent):
    """Processes below ``parent`` that are told to be ``rank``."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            below = parent == int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            trains = "resource_tracker" not in (folder / "cmdline").read_text()
            if below and trains and f"RANK={rank}" in (folder / "environ").read_text().split("\0"):
                yield int(folder.name)
        except OSError:
            continue


def scores(text):
    """The test's metrics, as a log tells them."""
    line = next(line for line in text.splitlines() if "test result" in line)
    return ast.literal_eval(line.partition("test result: ")[2])


@pytest.mark.slow
def test_processes_that_are_started_here_and_by_torchrun_end_alike(words, tmp_path, capfd):
    alone = main(words("PerPEFTSASRec"))
    capfd.readouterr()
    found = main([*words("PerPEFTSASRec"), "--nproc", "2"])
    assert found["test_result"] == alone["test_result"]
    assert found["global_result"] == alone["global_result"]
    assert capfd.readouterr().err.count("test result") == 1  # one of them logs
    assert len(list(tmp_path.glob("log/*/*.log"))) == 2
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    process = started([*torchrun, SCRIPT, *words("PerPEFTSASRec")], tmp_path / "torchrun")
    assert process.wait(300) == 0
    assert scores((tmp_path / "torchrun" / "said").read_text()) == alone["test_result"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["BPR", "SASRec", "Pop"])
def test_a_model_of_recboles_trains_in_two_processes_and_all_its_users_are_ranked(words, model):
    result = main([*words(model), "--nproc=2"])
    _, trainer, _, _, test_data = load(result["checkpoint"])
    assert trainer.evaluate(test_data, load_best_model=False) == result["test_result"]


@pytest.mark.slow
def test_two_machines_train_together(words, tmp_path):
    """Each in a folder of its own, by another of this machine's addresses."""
    meet = ["--nproc=1", "--world_size=2", "--ip=127.0.0.2", f"--port={free_port()}"]
    both = [
        started([sys.executable, SCRIPT, *words("PerPEFTSASRec"), *meet, f"--group_offset={number}"], tmp_path / name)
        for number, name in enumerate(("first", "second"))
    ]
    assert [process.wait(300) for process in both] == [0, 0]
    alone = main(words("PerPEFTSASRec"))
    assert scores((tmp_path / "first" / "said").read_text()) == alone["test_result"]
    assert "test result" not in (tmp_path / "second" / "said").read_text()
    assert not list((tmp_path / "second" / "saved").glob("*.pth"))


@pytest.mark.slow
def test_machines_with_other_settings_are_refused(words, tmp_path):
    meet = ["--nproc=1", "--world_size=2", "--ip=127.0.0.1", f"--port={free_port()}"]
    both = [
        started(
            [*[sys.executable, SCRIPT], *words("PerPEFTSASRec"), *meet, f"--group_offset={n}", f"--seed={n}"], place
        )
        for n, place in enumerate((tmp_path / "first", tmp_path / "second"))
    ]
    assert [process.wait(300) for process in both] == [2, 2]
    said = "".join((tmp_path / name / "said").read_text() for name in ("first", "second"))
    assert "Processes 0 and 1 do not fit together: seed: 0 and 1. Give all of them the same." in said


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["nproc", "torchrun"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_other_with_the_way_to_go_on(words, tmp_path, launcher, rank):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command = [*torchrun, SCRIPT] if launcher == "torchrun" else [sys.executable, SCRIPT, "--nproc=2"]
    process = started([*command, *words("PerPEFTSASRec"), *ENDLESS], place := tmp_path / "run")
    while not (files := list(place.glob("saved/*.pth"))):
        assert process.poll() is None, (place / "said").read_text()
        time.sleep(0.2)
    time.sleep(2)
    [victim] = children_with_rank(rank, process.pid)
    os.kill(victim, signal.SIGKILL)
    assert process.wait(60) != 0
    [line] = [line for line in (place / "said").read_text().splitlines() if line.startswith("ProcessError")]
    way = f"python run_recbole_perpeft.py --resume={files[0].relative_to(place)}"
    assert way in line
    load(files[0])  # it is whole


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(words, tmp_path):
    command = [sys.executable, SCRIPT, "--nproc=2", *words("PerPEFTSASRec"), *ENDLESS]
    process = started(command, place := tmp_path / "run")
    while not list(place.glob("saved/*.pth")):
        assert process.poll() is None, (place / "said").read_text()
        time.sleep(0.2)
    theirs = [*children_with_rank(0, process.pid), *children_with_rank(1, process.pid)]
    assert len(theirs) == 2
    process.kill()
    process.wait()
    for _ in range(300):
        if not any(Path(f"/proc/{pid}").exists() for pid in theirs):
            return
        time.sleep(0.1)
    raise AssertionError(f"{theirs} go on")
