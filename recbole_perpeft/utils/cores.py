"""What of the machine this process may use, and how its threads wait."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_SPINS = "2000"  # of GNU's OpenMP, some microseconds


def n_cores() -> int:
    """CPU cores that this process may use: those that it may run on, or fewer where a container has a share of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(cgroups: Path = _CGROUPS) -> float | None:
    """Cores' worth of time that the container may take, by Linux' control groups (of either version); None if all."""
    try:
        words = (cgroups / "cpu.max").read_text().split()  # "200000 100000", or "max 100000"
    except OSError:
        try:
            words = [(cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")]
        except OSError:
            return None
    try:
        quota, period = (float(word) for word in words)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def multiplies_bf16() -> bool:
    """Whether the processor multiplies bf16 several times faster than fp32: by tiles (AMX), not by longer vectors."""
    import torch  # late: whoever counts cores need not wait for it

    return bool(torch.cpu.get_capabilities().get("amx_bf16")) if hasattr(torch.cpu, "get_capabilities") else False


def share_cores() -> None:
    """Let threads of this process leave their core to others when they wait, and be no more than it has cores.

    OpenMP's threads wait busily for milliseconds unless told otherwise, and beside other work those of torch wait for
    one another most of the time. Were none busy for a moment, small products would take longer than on one core.
    What the user has set stays. Of use before torch is imported only.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    if cpu_quota() is not None:  # which OpenMP does not know of
        os.environ.setdefault("OMP_NUM_THREADS", str(n_cores()))


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch compute with the calling thread alone for a while."""
    import torch  # late, as above

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def at_once(runs: Sequence[Callable]) -> list:
    """The results of ``runs``; all but the first in threads of their own, none of which splits its products."""
    import torch  # late, as above

    grad = torch.is_grad_enabled()  # which each thread has for itself

    def alone(run: Callable):
        torch.set_num_threads(1)
        with torch.set_grad_enabled(grad):
            return run()

    with single_threaded(), ThreadPoolExecutor(max(1, len(runs) - 1)) as pool:
        others = [pool.submit(alone, run) for run in runs[1:]]
        return [runs[0](), *(other.result() for other in others)]
