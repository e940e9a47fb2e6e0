"""Runs one after another or side by side, none that is finished a second time, nor one that another process does."""

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import recbole_perpeft
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.experiments.inputs import Inputs, why_again
from recbole_perpeft.experiments.output_folder import Claim, alone
from recbole_perpeft.experiments.places import Place, Running
from recbole_perpeft.experiments.run import FORMAT, Run, model_of, read_result
from recbole_perpeft.experiments.run_process import Processes, checkpoint_of
from recbole_perpeft.utils.interrupts import interrupts_wait

_LOOK_AGAIN = 1.0  # seconds, where others do what is left


def do_runs(
    runs: Sequence[Run],
    out: Path,
    share_stage_1: bool = True,
    place: Place | None = None,
    keep_other_builds: bool = False,
    inputs: Inputs | None = None,
    keep_models: bool = False,
) -> tuple[list[dict | None], list[str]]:
    """Do all runs that are not finished; one of a PerPEFT model that was begun goes on from its last checkpoint.

    A finished one is done again if what it has read (data, pictures, encoder) or the package's sources are others now.
    Of processes that do this in one folder at the same time, each run is done by one, and all end with all results.

    Parameters
    ----------
    runs
        In the order in which they are begun, but for those of global PEFT, which come after one with their stage 1.
    out
        From :func:`~recbole_perpeft.experiments.output_folder.output_folder`.
    share_stage_1
        Whether what stage 1 ends with is kept in ``out``, and runs of the same stage 1 begin after it. Of these, one
        has to be finished before the others begin; global PEFT trains its own rather than leave a place idle.
    place
        Where they run, and how many at a time; None: in processes of this machine, one after another.
    keep_other_builds
        Whether finished and unfinished runs of other sources of this package count.
    inputs
        Files that were read before are not read again.
    keep_models
        Whether each run's checkpoint stays, in :func:`~recbole_perpeft.experiments.run.model_of`; a finished run that
        left none is done again.

    Returns
    -------
    tuple
        Result of each run, None for those that failed; and what went wrong, a line for each of these.

    Raises
    ------
    SettingError
        If the place cannot do them.
    """
    doing = _Doing(runs, out, share_stage_1, place or Processes(), keep_other_builds, inputs or Inputs(), keep_models)
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
        place: Place,
        keep_other_builds: bool,
        inputs: Inputs,
        keep_models: bool,
    ):
        self.results: list[dict | None] = [None] * len(runs)
        self.failures: dict[int, str] = {}
        self._runs, self._place, self._out = runs, place, out
        self._stage_1_folder = out / "stage_1" if share_stage_1 else None
        self._waiting = _order(runs) if share_stage_1 else list(range(len(runs)))
        self._pool = ThreadPoolExecutor(place.jobs)  # each thread waits for one run
        self._running: dict[Future, tuple[int, Running]] = {}
        self._elsewhere: set[int] = set()  # those that other processes do
        self._trained: set[str | None] = set()  # stages 1
        self._took: list[float] = []
        self._keep_other_builds, self._keep_models = keep_other_builds, keep_models
        self._inputs = [inputs.of(run.model, run.dataset, run.settings) for run in runs]
        place.check(out, runs, self._inputs)
        self._again = {number: self._why_again(number) for number in self._waiting if self._file(number).is_file()}
        self._claims = [Claim(out, run.file) for run in runs]
        self._failed_before = [claim.failure for claim in self._claims]

    def begin_one(self) -> bool:
        """Begin the first run that may begin now, or take note of its end if it has one; False if none may."""
        with alone(self._out):
            number = self._next()
            if number is None or not self._claims[number].take():
                return False
        self._waiting.remove(number)
        if self._file(number).is_file():
            self._again[number] = self._why_again(number)  # others may have done it by now
        if self._is_found(number) or self._has_failed_elsewhere(number):
            self._end_found(number)
        else:
            self._begin(number)
        return True

    def end_one(self) -> bool:
        """Wait until a run has ended, or for a moment if others do what is left; False if nothing is."""
        if not self._running and self._elsewhere:
            time.sleep(_LOOK_AGAIN)
        if not self._running:
            return bool(self._waiting)
        at_most = {"timeout": _LOOK_AGAIN} if self._elsewhere and len(self._running) < self._place.jobs else {}
        ended, _ = wait(self._running, return_when=FIRST_COMPLETED, **at_most)
        if ended:
            self._end(next(one for one in self._running if one in ended))
        return True

    def stop(self) -> None:
        """End what is running before its time."""
        for _, run in self._running.values():
            run.stop()
        self._pool.shutdown()
        for number, _ in self._running.values():
            self._claims[number].give_back()

    def _begin(self, number: int) -> None:
        run, file = self._runs[number], self._file(number)
        said = self._named(number) + (f" again, for {self._again[number]} ..." if number in self._again else "")
        said += " goes on ..." if checkpoint_of(file).is_file() else ""
        print(said, end=" " if self._place.jobs == 1 else "\n", flush=True)  # beside others its end has its own line
        log = self._out / "logs" / f"{run.file}.log"
        job = _job(run, file, log, self._stage_1_folder, self._place.jobs)
        job |= {"inputs": self._inputs[number], "keep_other_builds": self._keep_other_builds}
        job["model_file"] = str(model_of(run, self._out).resolve()) if self._keep_models else None
        with interrupts_wait():
            begun = self._place.begin(job, file, log)
            self._running[self._pool.submit(begun.end)] = number, begun

    def _end(self, future: Future) -> None:
        number, _ = self._running.pop(future)
        error, seconds = future.result()
        self._took.append(seconds)
        self._claims[number].note_failure(error)
        if error:
            self.failures[number] = f"{self._runs[number].name}: {error}"
        else:
            self._finish(number)
        self._claims[number].give_back()
        left = len(self._running) + sum(not self._is_found(other) for other in self._waiting)
        minutes = sum(self._took) / len(self._took) * left / self._place.jobs / 60
        said = f"{error or _said(self.results[number])} ({seconds:.0f} s; about {minutes:.0f} min left)"
        print(said if self._place.jobs == 1 else f"{self._named(number)} {said}", flush=True)

    def _end_found(self, number: int) -> None:
        """Take the result of a finished run, or what went wrong in another process while this one waited."""
        if self._is_found(number):
            self._finish(number)
            said = "found" + (", of another build" if self.results[number].get("sources") != sources_hash() else "")
        else:
            said = self._claims[number].failure.rpartition("\n")[0]
            self.failures[number] = f"{self._runs[number].name}: {said}"
        self._claims[number].give_back()
        print(f"{self._named(number)} {said}", flush=True)

    def _next(self) -> int | None:
        if len(self._running) == self._place.jobs:
            return None
        free = [number for number in self._waiting if self._claims[number].is_free()]
        elsewhere = {*self._waiting} - {*free}
        for number in sorted(elsewhere - self._elsewhere):
            print(f"{self._named(number)} done by {self._claims[number].holder}", flush=True)
        self._elsewhere = elsewhere
        being_trained = set()
        if self._stage_1_folder:
            begun = [self._runs[number] for number in (*elsewhere, *(number for number, _ in self._running.values()))]
            being_trained = {run.stage_1 for run in begun if run.leaves_stage_1} - self._trained
        first = (number for number in free if self._runs[number].stage_1 not in being_trained)
        beside = (number for number in free if not self._runs[number].leaves_stage_1)
        return next(first, next(beside, None))

    def _finish(self, number: int) -> None:
        self.results[number] = read_result(self._file(number))
        if self._runs[number].leaves_stage_1:
            self._trained.add(self._runs[number].stage_1)

    def _why_again(self, number: int) -> str | None:
        result = read_result(self._file(number))
        if self._keep_models and not model_of(self._runs[number], self._out).is_file():
            return "its model was not kept"
        return why_again(result, self._inputs[number], sources_hash(), self._keep_other_builds)

    def _is_found(self, number: int) -> bool:
        """Whether it was finished when it was last looked at, and still counts."""
        return number in self._again and self._again[number] is None

    def _has_failed_elsewhere(self, number: int) -> bool:
        """Whether another process has failed in it since this one began: then it is not tried once more."""
        return self._claims[number].failure not in (None, self._failed_before[number])

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


def _said(result: dict) -> str:
    metric = str(result["settings"].get("valid_metric", "")).lower()
    test = result.get("test", {})
    shown = f" test {test.get(metric, next(iter(test.values()))):.4f}" if test else ""
    return f"valid {result['valid']:.4f}{shown}"
