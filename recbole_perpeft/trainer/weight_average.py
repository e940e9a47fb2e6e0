"""The moving average of the weights, which is what is validated, kept and tested (``averaging_epochs``)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import nn

from recbole_perpeft.config import Config
from recbole_perpeft.trainer.stage import Stage
from recbole_perpeft.utils.weights import in_place


class WeightAverage:
    """Exponential moving average of parameters over the steps of the optimiser.

    torch's AveragedModel would make every step wait for a GPU, to which it copies how many there were. Most parameters
    are of groups that are not in a step: while a parameter stands still, its average comes nearer by a known factor, so
    both are read only when it is about to move.

    Parameters
    ----------
    parameters
        Those that are trained. Their average starts where they stand.
    forgets_start
        Whether the first steps replace more, so that where it started is soon forgotten (TensorFlow's
        ExponentialMovingAverage with ``num_updates``): not if that is an average itself.

    Attributes
    ----------
    horizon : float
        Steps over which is averaged: each step replaces ``1 / horizon`` of the average.
    steps : int
        Steps so far.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], forgets_start: bool) -> None:
        self._trained, self._parameters = list(parameters), [parameter.data for parameter in parameters]
        self._forgets_start, self.horizon, self.steps = forgets_start, 1.0, 0
        self._values = [parameter.clone() for parameter in self._parameters]
        self._left = np.ones(len(self._values))  # of the values' difference to the parameters, where it is not yet less

    @property
    def values(self) -> list[torch.Tensor]:
        """The average, in the order of the parameters."""
        self._take_in(range(len(self._values)))
        return self._values

    def before_step(self) -> None:
        """Take in what those parameters were that a step is about to move: they have a gradient."""
        self._take_in([number for number, parameter in enumerate(self._trained) if parameter.grad is not None])

    def update(self) -> None:
        """Count the parameters as they are after a step."""
        self.steps += 1
        weight = 1 / max(self.horizon, 1)
        if self._forgets_start:
            weight = max(weight, 9 / (9 + self.steps))
        self._left *= 1 - weight

    def _take_in(self, numbers: Sequence[int]) -> None:
        by_left: dict[float, list[int]] = {}
        for number in numbers:
            by_left.setdefault(float(self._left[number]), []).append(number)
        for left, some in by_left.items():
            if left < 1:
                values, parameters = ([of[number] for number in some] for of in (self._values, self._parameters))
                torch._foreach_lerp_(values, parameters, 1 - left)
                self._left[some] = 1

    def in_use(self) -> AbstractContextManager[None]:
        """Put the average into the parameters for a while; :attr:`values` hold what is trained meanwhile."""
        return in_place(self._parameters, self.values)

    def state(self) -> dict:
        """What a checkpoint holds."""
        return {"steps": self.steps, "values": [value.cpu() for value in self.values]}

    def load(self, state: dict) -> None:
        """Go on from a :meth:`state`."""
        self.steps = state["steps"]
        torch._foreach_copy_(self._values, [value.to(self._values[0].device) for value in state["values"]])
        self._left[:] = 1


def average_in(stage: Stage, model: nn.Module, config: Config) -> WeightAverage | None:
    """The average that a stage begins with, of a PerPEFT model; None, if none is kept."""
    if not config["averaging_epochs"]:
        return None
    at_random = stage is Stage.GLOBAL and not config["warm_start"]  # stage 3 starts from the average of stage 1
    return WeightAverage(model.trainable_parameters(), forgets_start=at_random)
