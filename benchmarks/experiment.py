"""The course of the speed benchmark: both stages in turn, then what is measured side by side."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import memory
from benchmarks.compare import Side, StageTimes, profile, time_stage
from benchmarks.machine import describe, matrix_rate
from benchmarks.ratios import ratios
from benchmarks.report import say
from benchmarks.sides import NAIVE, OurSide, Settings, make_side
from benchmarks.synthetic import Shop

DEFAULT = Settings("default")
ONE_GROUP = Settings("default, one group")
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Experiment:
    """What to measure and where.

    Attributes
    ----------
    sides : list of Settings
        The naive reference first, then the side whose users it trains on.
    shop : Shop
        The data.
    work : Path
        Folder for caches.
    device : torch.device
    num_groups : int
        At least 2.
    turns, windows : int
        Turns of each side, and training windows of a turn.
    whole_epoch : bool
        Whether this package's sides also train one whole epoch.
    """

    sides: list[Settings]
    shop: Shop
    work: Path
    device: torch.device
    num_groups: int
    turns: int
    windows: int
    whole_epoch: bool

    def run(self, keep: Callable[[dict], None]) -> dict:
        """Measure everything; the result is plain values by name.

        The memory comes first, in processes of their own, while this one holds no model yet.

        Parameters
        ----------
        keep
            Called with what has been measured so far, after each part.
        """
        results = {"machine": describe(self.device), "sides": {side.name: {} for side in self.sides}}
        for settings in self.sides:
            results["sides"][settings.name]["memory"] = memory.measure(*self._making(settings))
            say(f"measured the memory of {settings.name}")
            keep(results)
        alone = memory.measure(*self._making_one_group())
        default = results["sides"][DEFAULT.name]["memory"]
        growth = default["resting_bytes"] - alone["resting_bytes"]
        results["personalisation"] = {
            "counted_bytes_per_group": default["group_parameter_bytes"] + default["group_optimizer_bytes"],
            "measured_bytes_per_group": growth / (self.num_groups - 1),
        }
        self._measure(results, keep)
        return results

    def _making(self, settings: Settings) -> tuple:
        """What makes a side; each keeps its content in a folder of its own, as if it were the only one."""
        work = self.work / f"side-{self.sides.index(settings)}"
        work.mkdir(exist_ok=True)
        return settings, self.shop, self.num_groups, self.device, work

    def _making_one_group(self) -> tuple:
        _, shop, _, device, work = self._making(DEFAULT)
        return ONE_GROUP, shop, 1, device, work

    def _measure(self, results: dict, keep: Callable[[dict], None]) -> None:
        """All but the memory."""
        sides = [make_side(*self._making(settings)) for settings in self.sides]
        say(f"made {', '.join(side.name for side in sides)}")
        stages = {"stage 1": time_stage(sides, self.turns, self.windows)}
        say("timed stage 1")
        _add_stages(results, stages)
        keep(results)
        alone = make_side(*self._making_one_group())
        dataset = sides[0].train_data._dataset
        groups = self.shop.groups(dataset.field2id_token[dataset.uid_field], self.num_groups)
        for side in sides:
            side.personalise(groups)
        stages["stage 3"] = time_stage([*sides, alone], self.turns, self.windows)
        say("timed stage 3")
        _add_stages(results, stages)
        results["personalisation"] |= _cost_of_groups(stages["stage 3"])
        keep(results)
        for side in sides:
            results["sides"][side.name] |= self._one_by_one(side)
            results["sides"][side.name]["ratio_to_naive"] = _to_naive(side.name, results["sides"], stages)
            keep(results)

    def _one_by_one(self, side: Side) -> dict:
        rates = {name: matrix_rate(self.device, dtype) for name, dtype in _PRECISIONS.items()}
        result = {
            "seconds_to_prepare": side.seconds_to_prepare,
            "profile": profile(side, self.windows),
            "matrix_operations_per_second": rates,
            "validation": vars(side.validate()),
        }
        reached = result["profile"]["operations_per_second"]
        result["share_of_matrix_rate"] = {name: reached / rate for name, rate in rates.items()}
        if self.whole_epoch and isinstance(side, OurSide):
            result["whole_epoch_seconds"] = side.whole_epoch(1)
        say(f"profiled and validated {side.name}")
        return result


def _add_stages(results: dict, stages: dict[str, dict[str, StageTimes]]) -> None:
    for name, side in results["sides"].items():
        side["stages"] = {stage: times[name].summary() for stage, times in stages.items()}


def _to_naive(name: str, results: dict, stages: dict[str, dict[str, StageTimes]]) -> dict:
    """How many times as long the naive reference takes."""
    found = {}
    for stage, times in stages.items():
        found[f"{stage} epoch"] = ratios(times[NAIVE.name].epochs, times[name].epochs)
    epochs = stages["stage 3"]
    with_validation = {
        side: [seconds + results[side]["validation"]["seconds"] for seconds in epochs[side].epochs]
        for side in (NAIVE.name, name)
    }
    found["stage 3 epoch with validation"] = ratios(with_validation[NAIVE.name], with_validation[name])
    naive, own = (results[side]["validation"]["seconds"] for side in (NAIVE.name, name))
    found["validation"] = {"median": naive / own, "min": naive / own, "max": naive / own}
    return found


def _cost_of_groups(times: dict[str, StageTimes]) -> dict:
    several, one = times[DEFAULT.name], times[ONE_GROUP.name]
    return {
        "epoch_seconds": statistics.median(several.epochs),
        "one_group_epoch_seconds": statistics.median(one.epochs),
        "ratio": ratios(several.epochs, one.epochs),
    }
