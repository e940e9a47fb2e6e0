"""The state of all random generators of the process, taken and put back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state() -> tuple[Any, ...]:
    """The state of Python's, numpy's and torch's global generators (those of GPUs too, where torch uses them)."""
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), on_gpus


def set_random_state(state: tuple[Any, ...]) -> None:
    """Put back what :func:`random_state` gave."""
    of_python, of_numpy, of_torch, on_gpus = state
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    torch.set_rng_state(of_torch)
    if on_gpus is not None:
        torch.cuda.set_rng_state_all(on_gpus)


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
