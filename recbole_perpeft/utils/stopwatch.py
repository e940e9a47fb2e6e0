"""Seconds of a run, and what they went to."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Runs from the moment that it is made.

    Parameters
    ----------
    clock
        Gives seconds.

    Attributes
    ----------
    parts : dict[str, float]
        Seconds of each part, in the order in which they began.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self.parts: dict[str, float] = {}
        self._began = clock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile to ``name``; parts do not lie within each other."""
        began = self.clock()
        self.parts.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.parts[name] += self.clock() - began

    def seconds(self) -> dict[str, float]:
        """``all`` of them so far, each part, and the ``rest``."""
        whole = self.clock() - self._began
        return {"all": whole, **self.parts, "rest": whole - sum(self.parts.values())}


def in_words(seconds: float) -> str:
    """``40 s``, ``5 min`` or ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
