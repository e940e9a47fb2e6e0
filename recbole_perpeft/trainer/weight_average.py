"""The moving average of the weights, which is what is validated, kept and tested (``averaging_epochs``)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import nn

from recbole_perpeft.config import Config
from recbole_perpeft.trainer.stage import Stage
from recbole_perpeft.utils.weights import in_place


class WeightAverage:
    """Exponential moving average of parameters over the steps of the optimiser.

    torch's AveragedModel would make every step wait for a GPU, to which it copies how many there were.

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
    values : list of torch.Tensor
        The average, in the order of the parameters.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], forgets_start: bool) -> None:
        self._parameters = [parameter.data for parameter in parameters]
        self._forgets_start, self.horizon, self.steps = forgets_start, 1.0, 0
        self.values = [parameter.clone() for parameter in self._parameters]

    def update(self) -> None:
        """Take in the parameters as they are after a step."""
        self.steps += 1
        weight = 1 / max(self.horizon, 1)
        if self._forgets_start:
            weight = max(weight, 9 / (9 + self.steps))
        torch._foreach_lerp_(self.values, self._parameters, weight)

    def in_use(self) -> AbstractContextManager[None]:
        """Put the average into the parameters for a while; :attr:`values` hold what is trained meanwhile."""
        return in_place(self._parameters, self.values)

    def state(self) -> dict:
        """What a checkpoint holds."""
        return {"steps": self.steps, "values": [value.cpu() for value in self.values]}

    def load(self, state: dict) -> None:
        """Go on from a :meth:`state`."""
        self.steps = state["steps"]
        torch._foreach_copy_(self.values, [value.to(self.values[0].device) for value in state["values"]])


def average_in(stage: Stage, model: nn.Module, config: Config) -> WeightAverage | None:
    """The average that a stage begins with, of a PerPEFT model; None, if none is kept."""
    if not config["averaging_epochs"]:
        return None
    at_random = stage is Stage.GLOBAL and not config["warm_start"]  # stage 3 starts from the average of stage 1
    return WeightAverage(model.trainable_parameters(), forgets_start=at_random)
