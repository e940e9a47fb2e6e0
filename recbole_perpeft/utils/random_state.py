"""The state of all random generators of the process, taken and put back."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state() -> tuple[Any, ...]:
    """The state of Python's, numpy's and torch's global generators (those of GPUs too, where torch uses them)."""
    return random.getstate(), np.random.get_state(), *_torch_state()


def set_random_state(state: tuple[Any, ...]) -> None:
    """Put back what :func:`random_state` gave."""
    of_python, of_numpy, *of_torch = state
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    _set_torch_state(of_torch)


def _torch_state() -> tuple[torch.Tensor, list[torch.Tensor] | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None


def _set_torch_state(state: Sequence) -> None:
    on_cpu, on_gpus = state
    torch.set_rng_state(on_cpu)
    if on_gpus is not None:
        torch.cuda.set_rng_state_all(on_gpus)


class OwnDraws:
    """Draws of torch's generators that are apart from all others.

    Parameters
    ----------
    seed
        What they follow from.
    """

    def __init__(self, seed: int):
        self._seed, self._state = seed, None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """For a while, let torch draw from here."""
        before = _torch_state()
        if self._state is None:
            torch.manual_seed(self._seed)
        else:
            _set_torch_state(self._state)
        try:
            yield
        finally:
            self._state = _torch_state()
            _set_torch_state(before)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the generators, and cuDNN's choice of algorithms, as they were; RecBole's ``init_seed`` sets both.

    Else an application that draws at random between two runs would draw the same after each.
    """
    state, cudnn = random_state(), torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic
    try:
        yield
    finally:
        set_random_state(state)
        cudnn.benchmark, cudnn.deterministic = flags
