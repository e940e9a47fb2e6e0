"""What goes into which part of a training step, measured from outside by wrapping functions for a while."""

import contextlib
import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

CONTENT, FORWARD, BACKWARD, BACKBONE, OPTIMISER = (
    "content",
    "encoder forward",
    "encoder backward",
    "backbone and rest",
    "optimiser",
)
PARTS = (CONTENT, FORWARD, BACKWARD, BACKBONE, OPTIMISER)


class PartMeter:
    """Adds up a growing quantity per part. Parts exclude each other: what is spent in an inner one is not the outer's.

    Parameters
    ----------
    read
        Gives the quantity as it stands, such as :func:`clock`.

    Attributes
    ----------
    amounts : dict[str, float]
        By the names in ``PARTS``.
    """

    def __init__(self, read: Callable[[], float]):
        self._read = read
        self._thread = threading.get_ident()
        self._stack = [BACKBONE]
        self._last = read()
        self.amounts: dict[str, float] = defaultdict(float)

    def _switch(self) -> None:
        now = self._read()
        self.amounts[self._stack[-1]] += now - self._last
        self._last = now

    @contextlib.contextmanager
    def _part(self, name: str) -> Iterator[None]:
        self._switch()
        self._stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def _metered(self, function: Callable, name: str) -> Callable:
        @functools.wraps(function)
        def call(*args, **kwargs):
            if threading.get_ident() != self._thread:  # work beside the main thread is not what a step waits for
                return function(*args, **kwargs)
            with self._part(name):
                output = function(*args, **kwargs)
            if name == FORWARD and output.requires_grad:
                output.register_hook(self._encoder_is_next)
            return output

        return call

    def _encoder_is_next(self, gradient: torch.Tensor) -> None:
        """In a backward pass all that comes after the gradient of the encoder's output is the encoder's."""
        self._switch()
        self._stack[-1] = BACKWARD

    @contextlib.contextmanager
    def wrap(self, places: list[tuple[Any, str, str]]) -> Iterator[None]:
        """Meter functions, and backward passes, while inside.

        Parameters
        ----------
        places
            ``(owner, attribute, part)``: objects or classes, and which of their functions belong to which part.
        """
        with contextlib.ExitStack() as stack:
            for owner, attribute, name in [*places, (torch.autograd, "backward", BACKBONE)]:
                function = self._metered(getattr(owner, attribute), name)
                stack.enter_context(mock.patch.object(owner, attribute, function))
            self._switch()
            self.amounts.clear()
            yield
            self._switch()


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds for a meter; on a GPU they wait for it, so that a part has what it started and the whole is slower."""

    def read() -> float:
        synchronise(device)
        return time.perf_counter()

    return read


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
