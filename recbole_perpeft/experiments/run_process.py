"""Training runs in processes of their own on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole_perpeft.experiments.run import Run
from recbole_perpeft.utils.cores import n_cores


def checkpoint_of(file: Path) -> Path:
    """Where the run with that result file has its checkpoint until it is finished."""
    return file.with_suffix(".pth")


class Processes:
    """Runs in processes of this machine, which share its cores.

    Parameters
    ----------
    jobs
        How many at the same time.
    """

    def __init__(self, jobs: int = 1):
        self.jobs = jobs

    def check(self, out: Path, runs: Sequence[Run], inputs: Sequence[Mapping[str, str]]) -> None:
        """All that is here is there."""

    def begin(self, job: Mapping, file: Path, log: Path) -> "RunProcess":
        """Begin a run."""
        shared = self.jobs > 1 and "OMP_NUM_THREADS" not in os.environ
        return RunProcess(job, file, log, max(1, n_cores() // self.jobs) if shared else None)


class RunProcess:
    """Begins at once, and ends when the process that began it does.

    Parameters
    ----------
    job
        What :mod:`~recbole_perpeft.experiments.worker` is to do.
    file, log
        Where its result and what it prints go; of a run that was begun before, the log goes on.
    threads
        Of its calculations on the CPU; None leaves it to the libraries.

    Attributes
    ----------
    was_killed : bool
        Whether it has ended by a signal.
    """

    def __init__(self, job: Mapping, file: Path, log: Path, threads: int | None):
        self._file, self._log, self._job_file = file, log, file.with_suffix(".job")
        self._job_file.write_text(json.dumps(job, default=str))
        environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        command = [sys.executable, "-m", "recbole_perpeft.experiments.worker", str(self._job_file)]
        self._began, self.was_killed = time.perf_counter(), False
        if not checkpoint_of(file).is_file():
            log.unlink(missing_ok=True)
        with log.open("a") as output:  # which the process's own log appends to as well
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment
            )

    def end(self) -> tuple[str | None, float]:
        """Wait for its end: what went wrong (None: nothing), and the seconds that it took."""
        status = self._process.wait()
        took = time.perf_counter() - self._began
        self._process.stdin.close()
        self._job_file.unlink(missing_ok=True)
        self.was_killed = status < 0
        if status == 0 and self._file.is_file():
            return None, took
        lines = self._log.read_text(errors="replace").strip().splitlines()
        killed = f"killed by signal {-status}" if status < 0 else None
        if status == -signal.SIGKILL:
            killed += ", mostly for want of memory: set encoding_batch_size, or lower users_per_batch or --jobs"
        return f"FAILED: {killed or (lines[-1] if lines else f'exit status {status}')} (log {self._log})", took

    def stop(self) -> None:
        """End it before its time; it goes on from its last checkpoint when it is begun again."""
        self._process.kill()
