"""The parts that a PerPEFT model's score is the sum of."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from torch import nn


class Part(Enum):
    """What of a score is computed: all of it, or one part alone, by which its weight is found."""

    ALL = "all"
    BACKBONE = "backbone"
    CONTENT = "content"
    PURCHASES = "purchases"


@contextmanager
def only(part: Part, model: nn.Module) -> Iterator[None]:
    """Let a model's scores be one part of what they are for a while, without its weight."""
    before, model.part = model.part, part
    try:
        yield
    finally:
        model.part = before
