"""Runs on a Ray cluster: real ones of one or two nodes on the loopback address, whose workers are killed."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from recbole_perpeft.commands.compare import compare
from recbole_perpeft.commands.tune import tune
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.experiments import ray_workers
from recbole_perpeft.experiments.inputs import Inputs
from recbole_perpeft.experiments.output_folder import output_folder
from recbole_perpeft.experiments.places import open_place
from recbole_perpeft.experiments.run import Run
from recbole_perpeft.experiments.scheduler import do_runs
from recbole_perpeft.utils.errors import SettingError

MEMORY = 80 * 2**20  # bytes of a node's object store, which runs do not use


@pytest.fixture
def cluster(monkeypatch):
    """``cluster(**of_head)``: a cluster of one node that others can join; no process of it is left."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for module in ("ray.util", "ray._private.services"):
        monkeypatch.setattr(f"{module}.get_node_ip_address", lambda *_: "127.0.0.1")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    )
    begun = []

    def begin(**of_head):
        head = {"object_store_memory": MEMORY, "include_dashboard": False, **of_head}
        begun.append(Cluster(initialize_head=True, head_node_args=head))
        return begun[-1]

    yield begin
    ray.shutdown()
    nodes = [node for one in begun for node in one.list_all_nodes()]
    for one in begun:
        one.shutdown()
    assert not any(node.any_processes_alive() for node in nodes)


def run_processes(folder):
    """Processes that do runs of the folder of results, by their ids."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().decode().split("\0")
        except OSError:  # it has ended
            continue
        if "recbole_perpeft.experiments.worker" in words and any(str(folder) in word for word in words):
            found.append(int(place.parent.name))
    return found


def parent_of(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def until(condition):
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def scores(summary):
    return [(row["row"], row["valid"], row["test"]) for row in summary["rows"]]


@pytest.mark.slow
def test_runs_end_as_they_do_here_though_a_node_dies_and_none_is_done_twice(cluster, common, tmp_path, capsys):
    rows = {"variants": ["perpeft", "frozen"], "models": ["Pop"], "seeds": [1], "settings": common}
    out = tmp_path / "out"
    compare("tiny", out, [], ["Pop"], seeds=[1], settings=common)
    head = cluster(num_cpus=1)
    head.add_node(num_cpus=1, object_store_memory=MEMORY)

    def kill_a_node_in_mid_run():
        until(lambda: len(run_processes(out)) == 2)
        joined = sys.modules["ray._private.worker"]._global_node  # whose end would be the end of this process, too
        (other,) = [node for node in head.list_all_nodes() if node.raylet_socket_name != joined.raylet_socket_name]
        raylet = other.all_processes["raylet"][0].process.pid
        (worker,) = [worker for worker in map(parent_of, run_processes(out)) if parent_of(worker) == raylet]
        other.kill_raylet()
        os.kill(worker, signal.SIGKILL)  # as with the machine

    killing = threading.Thread(target=kill_a_node_in_mid_run)
    killing.start()
    capsys.readouterr()
    summary, failures = compare("tiny", out, **rows, jobs=2, ray=head.address)
    killing.join()
    said = capsys.readouterr().out
    assert failures == []
    assert said.count(" found\n") == 1  # Pop, done here
    assert "its worker died" in said
    assert "begun again" in said
    written = {file: file.stat().st_mtime_ns for file in (out / "runs").iterdir()}
    assert len(written) == 3
    again, _ = compare("tiny", out, **rows)
    assert capsys.readouterr().out.count(" found\n") == 3
    assert {file: file.stat().st_mtime_ns for file in (out / "runs").iterdir()} == written
    here, _ = compare("tiny", tmp_path / "here", **rows)
    assert scores(summary) == scores(again) == scores(here)


@pytest.mark.slow
def test_a_run_that_always_dies_is_reported_and_the_rest_goes_on_each_with_its_gpu(cluster, common, tmp_path, capsys):
    head = cluster(num_cpus=2, num_gpus=2)
    out = tmp_path / "out"
    on_gpu = {**common, "use_gpu": True}

    def kill_each_try():
        for _ in range(ray_workers.TRIES):
            until(lambda: run_processes(f"{out}/runs/dies-"))
            (process,) = run_processes(f"{out}/runs/dies-")
            os.kill(process, signal.SIGKILL)
            until(lambda process=process: process not in run_processes(f"{out}/runs/dies-"))

    killing = threading.Thread(target=kill_each_try)
    killing.start()
    runs = [Run(name, "Pop", "tiny", {**on_gpu, "seed": seed}) for seed, name in enumerate(("dies", "one", "other"))]
    with output_folder(out) as folder, open_place(2, head.address) as place:
        results, failures = do_runs(runs, folder, place=place)
    killing.join()
    assert [bool(result) for result in results] == [False, True, True]
    (failure,) = failures
    assert failure.startswith("dies: FAILED: killed by signal 9")
    assert failure.endswith(f", {ray_workers.TRIES} times")
    assert capsys.readouterr().out.count("begun again") == ray_workers.TRIES - 1
    assert {result["settings"]["gpu_id"] for result in results[1:]} <= {"0", "1"}
    assert results[1]["test"].keys() == results[2]["test"].keys()


@pytest.mark.slow
def test_a_search_finds_on_the_cluster_what_it_finds_here(cluster, common, tmp_path):
    pytest.importorskip("optuna")
    head = cluster(num_cpus=2)
    space = {"learning_rate": ("loguniform", [0.001, 0.1])}
    short = {**common, "epochs": 1, "num_groups": 1, "peft_type": "NONE"}
    found, failures = tune("tiny", space, tmp_path / "out", 2, settings=short, jobs=2, ray=head.address)
    assert not failures
    assert len(found) == 2
    assert tune("tiny", space, tmp_path / "here", 2, settings=short, jobs=2) == (found, [])


@pytest.mark.slow
def test_an_interrupt_ends_what_runs_on_the_cluster(cluster, common, tmp_path):
    head = cluster(num_cpus=1)
    out = tmp_path / "out"

    def interrupt():
        until(lambda: run_processes(out))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        compare("tiny", out, ["frozen"], seeds=[1], settings={**common, "epochs": 1000}, ray=head.address)
    until(lambda: not run_processes(out))
    assert not list((out / "runs").glob("*.json"))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "local", "auto"])
def test_where_no_cluster_answers_it_says_how_to_begin_one(tmp_path, monkeypatch, address):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where Ray looks for clusters of this machine
    with pytest.raises(SettingError, match=f"--ray: no cluster answers at {address} .*ray start --head"):
        compare("demo", tmp_path, [], ["Pop"], ray=address)


def test_without_ray_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match=r'--ray needs Ray .*pip install "recbole-perpeft\[ray\]"'):
        compare("demo", tmp_path, [], ["Pop"], ray="auto")


@pytest.mark.parametrize(
    ("cores", "jobs", "share"),
    [
        ([8], 1, 8),
        ([8], 3, 2),
        ([8, 8, 8, 8], 3, 8),
        ([8, 8, 8, 8], 6, 4),
        ([16, 4], 3, 5),
        ([2, 2], 9, 1),
        ([1], 1, 1),
    ],
)
def test_cores_of_all_machines_are_shared_evenly(cores, jobs, share):
    assert ray_workers._even_share(cores, jobs) == share


def test_a_machine_says_what_it_does_not_see(common, tmp_path, monkeypatch):
    run = Run("frozen, seed 1", "PerPEFTSASRec", "tiny", {**common, "peft_type": "NONE", "num_groups": 1})
    here = Inputs().of(run.model, run.dataset, run.settings)
    assert {"tiny.inter", "pictures", "encoder"} <= here.keys()
    seen = tmp_path / "out" / "claims" / "x.seen"

    def missing(directory=str(tmp_path), sources=None, **changed):
        reads = [(run.name, run.model, run.dataset, run.settings | changed, here)]
        return ray_workers._what_is_missing(str(seen), directory, sources or sources_hash(), reads)

    assert missing() == f"the folder of results {tmp_path / 'out'} is not there, or is another"
    seen.parent.mkdir(parents=True)
    seen.touch()
    assert missing() is None
    assert "folder /nowhere, where the command was given, is not there" in missing(directory="/nowhere")
    assert missing(sources="0") == "another build of recbole_perpeft is installed"
    assert missing(data_path="/nowhere").startswith("what frozen, seed 1 reads is not there, or is not the same (")
