"""Runs on the machines of a Ray cluster, which share a folder; nothing else in the package knows of Ray."""

import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.experiments.inputs import Inputs
from recbole_perpeft.experiments.run import Run
from recbole_perpeft.experiments.run_process import RunProcess
from recbole_perpeft.utils.errors import SettingError

TRIES = 3  # of a run whose worker dies
_ANSWERS_WITHIN = 10.0  # seconds


@contextmanager
def ray_cluster(address: str, jobs: int) -> Iterator["RayWorkers"]:
    """A cluster that runs already, joined for a while.

    Parameters
    ----------
    address
        ``HOST:PORT`` of its head, or ``auto``: that of this machine, or of ``RAY_ADDRESS``.
    jobs
        How many runs at the same time in the whole cluster.

    Raises
    ------
    SettingError
        If Ray is missing, or no cluster answers.
    """
    ray = _ray()
    try:
        if address != "auto":  # Ray itself waits for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_ANSWERS_WITHIN).close()
        ray.init(address=address, log_to_driver=False, logging_level="WARNING")
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingError(
            f"--ray: no cluster answers at {address} ({error}). Begin one with `ray start --head`, let the other "
            "machines join it with `ray start --address=HOST:PORT`, and give that address or auto."
        ) from error
    try:
        yield RayWorkers(ray, jobs)
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:  # of Ray itself, or of setuptools' pkg_resources, which Ray 2.6 needs and 82 has not
        raise SettingError(f'--ray needs Ray ({error}): pip install "recbole-perpeft[ray]"') from error
    return ray


class RayWorkers:
    """The machines of a cluster, whose cores and GPUs are shared out evenly among the runs.

    Parameters
    ----------
    ray
        The module, which has joined a cluster.
    jobs
        How many runs at the same time in the whole cluster.
    """

    def __init__(self, ray: Any, jobs: int):
        self.jobs = jobs
        self._ray, self._checked = ray, set()

    def check(self, out: Path, runs: Sequence[Run], inputs: Sequence[Mapping[str, str]]) -> None:
        """Ask each machine that was not asked before whether it sees what this one does.

        Raises
        ------
        SettingError
            If one does not, or none can do a run.
        """
        nodes = self._nodes()
        if not nodes:
            raise SettingError("--ray: no machine of the cluster has a core for runs. Let one join that has.")
        seen = out / "claims" / f"{uuid4()}.seen"
        reads = [
            (run.name, run.model, run.dataset, run.settings, of_run) for run, of_run in zip(runs, inputs, strict=True)
        ]
        question = str(seen.resolve()), os.getcwd(), sources_hash(), reads
        ask = self._ray.remote(num_cpus=0, max_calls=1)(_what_is_missing)
        seen.touch()
        try:
            asked = {
                name: ask.options(scheduling_strategy=_on(name)).remote(*question)
                for name in nodes.keys() - self._checked
            }
            for name, answer in asked.items():
                self._refuse(nodes[name]["NodeManagerHostname"], self._answer_to(answer))
                self._checked.add(name)
        finally:
            seen.unlink(missing_ok=True)

    def begin(self, job: Mapping, file: Path, log: Path) -> "RayRun":
        """Begin a run on a machine that has room, or let it wait for one."""
        nodes = self._nodes().values()
        cores = [int(node["Resources"]["CPU"]) for node in nodes]
        threads = int(os.environ.get("OMP_NUM_THREADS") or _even_share(cores, self.jobs))
        threads = min(threads, max(cores, default=1))  # more could never begin
        gpus = sum(node["Resources"].get("GPU", 0) for node in nodes) if job["settings"].get("use_gpu", True) else 0
        needs = {"num_cpus": threads, "num_gpus": gpus and 1 / math.ceil(self.jobs / gpus), "max_retries": 0}
        work = self._ray.remote(**needs)(_work)
        return RayRun(self._ray, work, (dict(job), str(file.resolve()), str(log.resolve()), threads, os.getcwd()))

    def _nodes(self) -> dict[str, dict]:
        """Those that run and have cores for runs, by their ids."""
        return {
            node["NodeID"]: node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        }

    def _answer_to(self, question: Any) -> str | None:
        try:
            return self._ray.get(question)
        except self._ray.exceptions.RayError as error:
            return f"recbole_perpeft does not run there ({_last_line(error)})"

    def _refuse(self, host: str, missing: str | None) -> None:
        if missing:
            raise SettingError(
                f"--ray: {missing}, on {host}. All machines need the same build of this package and its requirements, "
                "and a shared folder with the data and the results under the same path."
            )


class RayRun:
    """A run that begins when a machine has room, and once more, on any, where its worker dies.

    Parameters
    ----------
    ray
        The module.
    work
        :func:`_work` as a task, with what it needs.
    arguments
        Of the task.
    """

    def __init__(self, ray: Any, work: Any, arguments: tuple):
        self._ray, self._work, self._arguments = ray, work, arguments
        self._stopped = False
        self._task = work.remote(*arguments)

    def end(self) -> tuple[str | None, float]:
        """Wait for its end: what went wrong (None: nothing), and the seconds that its last try took."""
        for left in reversed(range(TRIES)):
            error, seconds, died = self._end_of_one()
            if not died or self._stopped:
                break
            if left:
                print(f"{self._arguments[0]['name']} ... {error}, begun again", flush=True)
                self._task = self._work.remote(*self._arguments)
            else:
                error += f", {TRIES} times"
        return error, seconds

    def stop(self) -> None:
        """End it before its time."""
        self._stopped = True
        self._ray.cancel(self._task, force=True)

    def _end_of_one(self) -> tuple[str | None, float, bool]:
        """As :meth:`end`, and whether it or its worker died."""
        began, log = time.perf_counter(), self._arguments[2]
        try:
            return self._ray.get(self._task)
        except self._ray.exceptions.RayTaskError as error:  # what ran there says what is wrong
            return f"FAILED: {_last_line(error)} (log {log})", time.perf_counter() - began, False
        except self._ray.exceptions.RayError as error:
            said = f"FAILED: its worker died ({type(error).__name__}) (log {log})"
            return said, time.perf_counter() - began, True


def _what_is_missing(seen: str, directory: str, sources: str, reads: Sequence[tuple]) -> str | None:
    """On a worker: what is not there, or not what it is where the command was given; None if all is.

    Parameters
    ----------
    seen
        A file in the folder of results.
    directory
        Where the command was given, from which relative paths lead.
    sources
        Hash of the package's sources there.
    reads
        Name, model, data set and settings of each run, and the hashes of what it reads there.
    """
    if not Path(seen).is_file():
        return f"the folder of results {Path(seen).parents[1]} is not there, or is another"
    try:
        os.chdir(directory)
    except OSError:
        return f"the folder {directory}, where the command was given, is not there"
    if sources_hash() != sources:
        return "another build of recbole_perpeft is installed"
    known = Inputs()
    for run, model, dataset, settings, before in reads:
        now = known.of(model, dataset, settings)
        if names := sorted(name for name in {*before, *now} if before.get(name) != now.get(name)):
            return f"what {run} reads is not there, or is not the same ({', '.join(names)})"
    return None


def _work(job: dict, file: str, log: str, threads: int, directory: str) -> tuple[str | None, float, bool]:
    """On a worker: do a run in a process beside it; what went wrong, its seconds, and whether it was killed."""
    import ray

    os.chdir(directory)
    if gpus := ray.get_gpu_ids():
        job["settings"]["gpu_id"] = ",".join(map(str, gpus))  # RecBole makes no others visible
    process = RunProcess(job, Path(file), Path(log), threads)
    return *process.end(), process.was_killed


def _even_share(cores: Sequence[int], jobs: int) -> int:
    """The most cores that each of ``jobs`` runs can have at the same time on machines of so many; at least one."""
    shares = range(max(cores, default=1), 0, -1)
    return next((share for share in shares if sum(of_one // share for of_one in cores) >= jobs), 1)


def _on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
