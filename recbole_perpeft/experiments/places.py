"""Where runs run: in processes of this machine, or on those of a Ray cluster."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from recbole_perpeft.experiments.run import Run
from recbole_perpeft.experiments.run_process import Processes
from recbole_perpeft.utils.errors import SettingError


class Running(Protocol):
    """A run that was begun."""

    def end(self) -> tuple[str | None, float]:
        """Wait for its end: what went wrong (None: nothing), and the seconds that it took."""

    def stop(self) -> None:
        """End it before its time; it goes on from its last checkpoint when it is begun again."""


class Place(Protocol):
    """Where runs run.

    Attributes
    ----------
    jobs : int
        How many at the same time.
    """

    jobs: int

    def check(self, out: Path, runs: Sequence[Run], inputs: Sequence[Mapping[str, str]]) -> None:
        """Refuse a place that cannot do ``runs``: ``out`` or what they read, by their hashes, is not there."""

    def begin(self, job: Mapping, file: Path, log: Path) -> Running:
        """Begin a run: what :mod:`~recbole_perpeft.experiments.worker` is to do, its result, and its log."""


@contextmanager
def open_place(jobs: int, ray: str | None) -> Iterator[Place]:
    """The place that the command line asks for.

    Parameters
    ----------
    jobs
        How many runs at the same time.
    ray
        Address of a Ray cluster, or ``auto``; None: this machine.

    Raises
    ------
    SettingError
        If there is no such place.
    """
    if jobs < 1:
        raise SettingError(f"--jobs: {jobs} runs side by side are not possible. Give 1 or more.")
    if ray is None:
        yield Processes(jobs)
        return
    from recbole_perpeft.experiments.ray_workers import ray_cluster  # waits for Ray

    with ray_cluster(ray, jobs) as workers:
        yield workers
