"""Interrupts (Ctrl-C) that wait until something is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let an interrupt of what is done here act at its end: a process that is begun is known then, and can be ended."""
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    seen: list[tuple] = []
    before = signal.signal(signal.SIGINT, lambda *arguments: seen.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if seen and callable(before):
        before(*seen[0])
