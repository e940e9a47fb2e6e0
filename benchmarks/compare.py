"""Measurements of the speed benchmark, several sides in turn so that a noisy machine hits all alike."""

import itertools
import statistics
import time
from dataclasses import dataclass

from benchmarks.machine import operation_counter
from benchmarks.parts import BACKWARD, FORWARD, PARTS, PartMeter, clock, synchronise
from benchmarks.sides import NaiveSide, OurSide

Side = OurSide | NaiveSide


@dataclass
class StageTimes:
    """Training steps of one side in one stage.

    Attributes
    ----------
    first_step_seconds : float
        The warm-up, with whatever is computed once.
    seconds_per_step : list of float
        One entry a turn.
    items_per_step : list of float
        Items that went through the encoder, likewise.
    steps_per_epoch : int
    """

    first_step_seconds: float
    seconds_per_step: list[float]
    items_per_step: list[float]
    steps_per_epoch: int

    @property
    def epochs(self) -> list[float]:
        """Seconds of a training epoch, from the steps of each turn."""
        return [seconds * self.steps_per_epoch for seconds in self.seconds_per_step]

    def summary(self) -> dict:
        """For the output."""
        items = statistics.mean(self.items_per_step)
        return {
            **vars(self),
            "median_step_seconds": statistics.median(self.seconds_per_step),
            "epoch_seconds": statistics.median(self.epochs),
            "mean_items_per_step": items,
            "items_per_epoch": items * self.steps_per_epoch,
        }


def time_stage(sides: list[Side], turns: int, windows: int) -> dict[str, StageTimes]:
    """Let the sides train in turn, ``windows`` windows of batches a turn, after a warm-up of one window.

    The naive reference, which comes first, trains on the users of the side after it.
    """
    naive, paired, *others = sides
    sources = {side.name: side.windows() for side in (paired, *others)}
    times = {side.name: StageTimes(0.0, [], [], side.steps_per_epoch) for side in sides}
    for side in sides:
        side.begin_training()
    for turn in range(turns + 1):
        shared = [next(sources[paired.name]) for _ in range(windows if turn else 1)]
        for side in sides:
            before, steps = side.items_encoded, 0
            synchronise(side.device)
            start = time.perf_counter()
            for pairs in shared:
                window = pairs if side in (naive, paired) else next(sources[side.name])
                side.train(window)
                steps += len(window)
            synchronise(side.device)
            seconds = (time.perf_counter() - start) / steps
            if turn:
                times[side.name].seconds_per_step.append(seconds)
                times[side.name].items_per_step.append((side.items_encoded - before) / steps)
            else:
                times[side.name].first_step_seconds = seconds
    return times


def profile(side: Side, windows: int) -> dict:
    """Seconds a step of each part, and the operations of the encoder, over the same batches one after the other."""
    side.begin_training()
    batches = list(itertools.islice(side.windows(), windows))
    steps = sum(map(len, batches))

    def train() -> None:
        for window in batches:
            side.train(window)

    def encoder(amounts: dict[str, float]) -> float:
        return (amounts[FORWARD] + amounts[BACKWARD]) / steps

    train()  # warm-up
    before = side.items_encoded
    timer = PartMeter(clock(side.device))
    with timer.wrap(side.places):
        train()
    items = (side.items_encoded - before) / steps
    with operation_counter() as counter:
        operations = PartMeter(counter.get_total_flops)
        with operations.wrap(side.places):
            train()
    return {
        "parts_seconds": {name: timer.amounts[name] / steps for name in PARTS},
        "items": items,
        "operations_per_item": encoder(operations.amounts) / items,
        "operations_per_second": encoder(operations.amounts) / encoder(timer.amounts),
    }
