"""Runs one after another or side by side, each in a process of its own, none that is finished a second time."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

import recbole_perpeft
from recbole_perpeft.config.registry import our_models
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.experiments.inputs import Inputs, why_again
from recbole_perpeft.experiments.run_process import RunProcess, checkpoint_of
from recbole_perpeft.trainer.stage_1_cache import GROUP_SETTINGS
from recbole_perpeft.utils.cores import n_cores
from recbole_perpeft.utils.errors import DataError, SettingError

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes
    ----------
    name : str
        What it is called in files and in the log.
    model, dataset : str
        As for a single run.
    settings : dict
        All other settings, the seed included.
    test : bool
        Whether the test purchases are looked at.
    """

    name: str
    model: str
    dataset: str
    settings: dict
    test: bool = True

    @property
    def file(self) -> str:
        """Name of its files: another setting is another run."""
        content = [FORMAT, self.model, self.dataset, sorted(self.settings.items()), self.test]
        digest = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:10]
        words = "".join(letter if letter.isalnum() else "-" for letter in self.name)
        return f"{words}-{digest}"

    @property
    def stage_1(self) -> str | None:
        """The same for runs that have the same stage 1, as far as their settings tell; None of a model without one."""
        if self.model not in our_models():
            return None
        reads = sorted((key, value) for key, value in self.settings.items() if key not in GROUP_SETTINGS)
        return json.dumps([self.model, self.dataset, reads], default=str)

    @property
    def leaves_stage_1(self) -> bool:
        """Whether others can begin after its stage 1; of global PEFT, which can only take one, no end is known."""
        return self.stage_1 is not None and self.settings.get("num_groups") != 1


def model_of(run: Run, out: Path) -> Path:
    """Where the checkpoint of a run stays, in the folder of results, if it is kept."""
    return out / "models" / f"{run.file}.pth"


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """The folder, made and held by this process alone.

    Raises
    ------
    SettingError
        If another process holds it, it cannot be made, or it has results of another version.
    """
    try:
        for name in ("runs", "logs"):
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"--out: {out} cannot be used as a folder ({error}). Choose another.") from error
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SettingError(f"--out: another process writes {out} now. Wait, or choose another folder.") from error
    try:
        for file in (out / "runs").glob("*.json"):
            _read(file)
        yield out
    finally:
        lock.release()


def do_runs(
    runs: Sequence[Run],
    out: Path,
    share_stage_1: bool = True,
    jobs: int = 1,
    keep_other_builds: bool = False,
    inputs: Inputs | None = None,
    keep_models: bool = False,
) -> tuple[list[dict | None], list[str]]:
    """Do all runs that are not finished; one of a PerPEFT model that was begun goes on from its last checkpoint.

    A finished one is done again if what it has read (data, pictures, encoder) or the package's sources are others now.

    Parameters
    ----------
    runs
        In the order in which they are begun, but for those of global PEFT, which come after one with their stage 1.
    out
        From :func:`output_folder`.
    share_stage_1
        Whether what stage 1 ends with is kept in ``out``, and runs of the same stage 1 begin after it.
    jobs
        How many run side by side, with the CPU's cores shared out among them. Of runs with the same stage 1, one has to
        be finished before the others begin; global PEFT trains its own rather than leave a place idle.
    keep_other_builds
        Whether finished and unfinished runs of other sources of this package count.
    inputs
        Files that were read before are not read again.
    keep_models
        Whether each run's checkpoint stays, in :func:`model_of`; a finished run that left none is done again.

    Returns
    -------
    tuple
        Result of each run, None for those that failed; and what went wrong, a line for each of these.
    """
    doing = _Doing(runs, out, share_stage_1, jobs, keep_other_builds, inputs or Inputs(), keep_models)
    try:
        while doing.begin_one() or doing.end_one():
            pass
    finally:
        doing.stop()
    return doing.results, [doing.failures[number] for number in sorted(doing.failures)]


class _Doing:
    """The runs of one call on their way from waiting to ended; each is known by its place in ``runs``."""

    def __init__(
        self,
        runs: Sequence[Run],
        out: Path,
        share_stage_1: bool,
        jobs: int,
        keep_other_builds: bool,
        inputs: Inputs,
        keep_models: bool,
    ):
        self.results: list[dict | None] = [None] * len(runs)
        self.failures: dict[int, str] = {}
        self._runs, self._jobs, self._out = runs, jobs, out
        self._stage_1_folder = out / "stage_1" if share_stage_1 else None
        self._waiting = _order(runs) if share_stage_1 else list(range(len(runs)))
        self._pool = ThreadPoolExecutor(jobs)  # each thread waits for one process
        self._running: dict[Future, tuple[int, RunProcess]] = {}
        self._trained: set[str | None] = set()  # stages 1
        self._took: list[float] = []
        self._keep_other_builds, self._keep_models = keep_other_builds, keep_models
        self._inputs = [inputs.of(run.model, run.dataset, run.settings) for run in runs]
        self._again = {number: self._why_again(number) for number in self._waiting if self._file(number).is_file()}

    def begin_one(self) -> bool:
        """Begin the first run that may begin now, or take its result if it is finished; False if none may."""
        number = self._next()
        if number is None:
            return False
        self._waiting.remove(number)
        run, file = self._runs[number], self._file(number)
        if self._is_found(number):
            self._finish(number)
            other = ", of another build" if self.results[number].get("sources") != sources_hash() else ""
            print(f"{self._named(number)} found{other}", flush=True)
            return True
        said = self._named(number) + (f" again, for {self._again[number]} ..." if number in self._again else "")
        said += " goes on ..." if checkpoint_of(file).is_file() else ""
        print(said, end=" " if self._jobs == 1 else "\n", flush=True)  # beside others its end has its own line
        log = self._out / "logs" / f"{run.file}.log"
        job = _job(run, file, log, self._stage_1_folder, self._jobs)
        job |= {"inputs": self._inputs[number], "keep_other_builds": self._keep_other_builds}
        job["model_file"] = str(model_of(run, self._out).resolve()) if self._keep_models else None
        process = RunProcess(job, file, log, _threads(self._jobs))
        self._running[self._pool.submit(process.end)] = number, process
        return True

    def end_one(self) -> bool:
        """Wait until a run has ended; False if none is running."""
        if not self._running:
            return False
        ended, _ = wait(self._running, return_when=FIRST_COMPLETED)
        future = next(one for one in self._running if one in ended)
        number, _ = self._running.pop(future)
        error, seconds = future.result()
        self._took.append(seconds)
        if error:
            self.failures[number] = f"{self._runs[number].name}: {error}"
        else:
            self._finish(number)
        left = len(self._running) + sum(not self._is_found(other) for other in self._waiting)
        minutes = sum(self._took) / len(self._took) * left / self._jobs / 60
        said = f"{error or _said(self.results[number])} ({seconds:.0f} s; about {minutes:.0f} min left)"
        print(said if self._jobs == 1 else f"{self._named(number)} {said}", flush=True)
        return True

    def stop(self) -> None:
        """End what is running before its time."""
        for _, process in self._running.values():
            process.stop()
        self._pool.shutdown()

    def _next(self) -> int | None:
        if len(self._running) == self._jobs:
            return None
        being_trained = set()
        if self._stage_1_folder:
            running = [self._runs[number] for number, _ in self._running.values()]
            being_trained = {run.stage_1 for run in running if run.leaves_stage_1} - self._trained
        free = (number for number in self._waiting if self._runs[number].stage_1 not in being_trained)
        beside = (number for number in self._waiting if not self._runs[number].leaves_stage_1)
        return next(free, next(beside, None))

    def _finish(self, number: int) -> None:
        self.results[number] = _read(self._file(number))
        if self._runs[number].leaves_stage_1:
            self._trained.add(self._runs[number].stage_1)

    def _why_again(self, number: int) -> str | None:
        result = _read(self._file(number))
        if self._keep_models and not model_of(self._runs[number], self._out).is_file():
            return "its model was not kept"
        return why_again(result, self._inputs[number], sources_hash(), self._keep_other_builds)

    def _is_found(self, number: int) -> bool:
        """Whether it was finished before this call, and still counts."""
        return number in self._again and self._again[number] is None

    def _file(self, number: int) -> Path:
        return self._out / "runs" / f"{self._runs[number].file}.json"

    def _named(self, number: int) -> str:
        return f"run {number + 1} of {len(self._runs)}: {self._runs[number].name} ..."


def _order(runs: Sequence[Run]) -> list[int]:
    """Places of the runs, those that can only take a stage 1 after the first that leaves it."""
    first: dict[str | None, int] = {}
    for number, run in enumerate(runs):
        if run.leaves_stage_1:
            first.setdefault(run.stage_1, number)
    return sorted(
        range(len(runs)),
        key=lambda number: (max(number, first.get(runs[number].stage_1, number)), not runs[number].leaves_stage_1),
    )


def _job(run: Run, file: Path, log: Path, stage_1_folder: Path | None, jobs: int) -> dict:
    return {
        "format": FORMAT,
        "version": recbole_perpeft.__version__,
        "sources": sources_hash(),
        "name": run.name,
        "model": run.model,
        "dataset": run.dataset,
        "settings": run.settings,
        "with_test": run.test,
        "jobs": jobs,
        "result": str(file.resolve()),
        "log": str(log.resolve()),
        "stage_1_folder": stage_1_folder and str(stage_1_folder.resolve()),
    }


def _threads(jobs: int) -> int | None:
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, n_cores() // jobs)


def _said(result: dict) -> str:
    metric = str(result["settings"].get("valid_metric", "")).lower()
    test = result.get("test", {})
    shown = f" test {test.get(metric, next(iter(test.values()))):.4f}" if test else ""
    return f"valid {result['valid']:.4f}{shown}"


def _read(file: Path) -> dict:
    try:
        result = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"Result {file} cannot be read ({error}). Delete it to run it again.") from error
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise DataError(
            f"Result {file} was written by another version (format {FORMAT} is needed). Choose another --out, or "
            "delete the file to run it again."
        )
    return result
