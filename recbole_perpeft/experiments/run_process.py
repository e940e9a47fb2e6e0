"""A training run in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path


def checkpoint_of(file: Path) -> Path:
    """Where the run with that result file has its checkpoint until it is finished."""
    return file.with_suffix(".pth")


class RunProcess:
    """Begins at once.

    Parameters
    ----------
    job
        What :mod:`~recbole_perpeft.experiments.worker` is to do.
    file, log
        Where its result and what it prints go; of a run that was begun before, the log goes on.
    threads
        Of its calculations on the CPU; None leaves it to the libraries.
    """

    def __init__(self, job: Mapping, file: Path, log: Path, threads: int | None):
        self._file, self._log, self._job_file = file, log, file.with_suffix(".job")
        self._job_file.write_text(json.dumps(job, default=str))
        environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        command = [sys.executable, "-m", "recbole_perpeft.experiments.worker", str(self._job_file)]
        self._began = time.perf_counter()
        if not checkpoint_of(file).is_file():
            log.unlink(missing_ok=True)
        with log.open("a") as output:  # which the process's own log appends to as well
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

    def end(self) -> tuple[str | None, float]:
        """Wait for its end: what went wrong (None: nothing), and the seconds that it took."""
        status = self._process.wait()
        took = time.perf_counter() - self._began
        self._job_file.unlink()
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
