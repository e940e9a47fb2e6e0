"""Runs one after another, each in a process of its own, none that is finished a second time."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

import recbole_perpeft
from recbole_perpeft.errors import DataError, SettingError

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


def do_runs(runs: Sequence[Run], out: Path, share_stage_1: bool = True) -> tuple[list[dict | None], list[str]]:
    """Do all runs that are not finished; one of a PerPEFT model that was begun goes on from its last checkpoint.

    Parameters
    ----------
    runs
        In the order in which they are done.
    out
        From :func:`output_folder`.
    share_stage_1
        Whether what stage 1 ends with is kept in ``out``, and runs of the same stage 1 begin after it.

    Returns
    -------
    tuple
        Result of each run, None for those that failed; and what went wrong, a line for each of these.
    """
    results, failures, took = [], [], []
    stage_1_folder = out / "stage_1" if share_stage_1 else None
    for number, run in enumerate(runs, start=1):
        file = out / "runs" / f"{run.file}.json"
        print(f"run {number} of {len(runs)}: {run.name} ...", end=" ", flush=True)
        if file.is_file():
            results.append(_read(file))
            print("found", flush=True)
            continue
        if checkpoint_of(file).is_file():
            print("goes on ...", end=" ", flush=True)
        began = time.perf_counter()
        error = _in_process(run, file, out / "logs" / f"{run.file}.log", stage_1_folder)
        took.append(time.perf_counter() - began)
        left = sum(took) / len(took) * sum(not (out / "runs" / f"{r.file}.json").is_file() for r in runs[number:])
        if error:
            failures.append(f"{run.name}: {error}")
        results.append(None if error else _read(file))
        print(f"{error or _said(results[-1])} ({took[-1]:.0f} s; about {left / 60:.0f} min left)", flush=True)
    return results, failures


def checkpoint_of(file: Path) -> Path:
    """Where the run with that result file has its checkpoint until it is finished."""
    return file.with_suffix(".pth")


def _in_process(run: Run, file: Path, log: Path, stage_1_folder: Path | None) -> str | None:
    """Do a run; gives what went wrong."""
    job = {
        "format": FORMAT,
        "version": recbole_perpeft.__version__,
        "name": run.name,
        "model": run.model,
        "dataset": run.dataset,
        "settings": run.settings,
        "with_test": run.test,
        "result": str(file.resolve()),
        "stage_1_folder": stage_1_folder and str(stage_1_folder.resolve()),
    }
    job_file = file.with_suffix(".job")
    job_file.write_text(json.dumps(job, default=str))
    with log.open("a" if checkpoint_of(file).is_file() else "w") as output:
        command = [sys.executable, "-m", "recbole_perpeft.commands.one_run", str(job_file)]
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    job_file.unlink()
    if status == 0 and file.is_file():
        return None
    lines = log.read_text(errors="replace").strip().splitlines()
    killed = f"killed by signal {-status}" if status < 0 else None
    if status == -signal.SIGKILL:
        killed += ", mostly for want of memory: set encoding_batch_size or lower users_per_batch"
    return f"FAILED: {killed or (lines[-1] if lines else f'exit status {status}')} (log {log})"


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
