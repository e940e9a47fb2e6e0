"""What of the machine this process may use."""

import os


def n_cores() -> int:
    """CPU cores that this process may run on (of all, where the system does not tell)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
