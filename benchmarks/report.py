"""Tables and a plot of what the speed benchmark measured."""

import sys
import time
from pathlib import Path

from benchmarks.parts import PARTS

_START = time.perf_counter()
_MIB = 2**20
VALIDATION = "validation"


def say(text: str) -> None:
    """Tell on stderr how far the benchmark is."""
    print(f"[{time.perf_counter() - _START:7.1f} s] {text}", file=sys.stderr, flush=True)


def _table(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _spread(ratio: dict[str, float]) -> str:
    if ratio["min"] == ratio["max"]:
        return f"{ratio['median']:.2f}"
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


def parts_of_epoch(side: dict) -> dict[str, float]:
    """Seconds of each part of a stage-3 epoch with validation: shares of a profiled step times the epoch's seconds."""
    parts = side["profile"]["parts_seconds"]
    scale = side["stages"]["stage 3"]["epoch_seconds"] / sum(parts.values())
    return {name: parts[name] * scale for name in PARTS} | {VALIDATION: side["validation"]["seconds"]}


def text(result: dict) -> str:
    """All tables."""
    sides = result["sides"]
    sections = [
        "Machine: " + ", ".join(f"{key} {value}" for key, value in result["machine"].items() if value is not None),
        "Shop: " + ", ".join(f"{key} {value}" for key, value in result["shop"].items()),
        *(f"{stage.capitalize()}: training\n{_stage(sides, stage)}" for stage in ("stage 1", "stage 3")),
        f"Stage 3 with validation\n{_with_validation(sides)}",
        "How validation was timed\n"
        + "\n".join(f"{name}: {side['validation']['how']}" for name, side in sides.items()),
        f"Shares of a stage-3 epoch with validation, in per cent\n{_shares(sides)}",
        f"Encoder in training steps, forward and backward\n{_encoder(sides)}",
        f"Peak memory of training, each side in a process of its own\n{_memory(sides)}",
        f"Cost of personalisation, default settings\n{_personalisation(result['personalisation'])}",
    ]
    return "\n\n".join(sections)


def _stage(sides: dict, stage: str) -> str:
    header = ["side", "s/step", "items/step", "steps/epoch", "items/epoch", "s/epoch", "naive/side", "first step s"]
    rows = []
    for name, side in sides.items():
        times, ratio = side["stages"][stage], side["ratio_to_naive"][f"{stage} epoch"]
        rows.append(
            [
                name,
                f"{times['median_step_seconds']:.3g}",
                f"{times['mean_items_per_step']:.1f}",
                f"{times['steps_per_epoch']}",
                f"{times['items_per_epoch']:.0f}",
                f"{times['epoch_seconds']:.4g}",
                _spread(ratio),
                f"{times['first_step_seconds']:.3g}",
            ]
        )
    return _table(header, rows)


def _with_validation(sides: dict) -> str:
    header = ["side", "epoch s", "validation s", "together s", "naive/side", "validation naive/side", "prepare s"]
    measured = any("whole_epoch_seconds" in side for side in sides.values())
    rows = []
    for name, side in sides.items():
        epoch, validation = side["stages"]["stage 3"]["epoch_seconds"], side["validation"]["seconds"]
        ratio = side["ratio_to_naive"]
        row = [name, f"{epoch:.4g}", f"{validation:.4g}", f"{epoch + validation:.4g}"]
        row += [_spread(ratio["stage 3 epoch with validation"]), _spread(ratio["validation"])]
        row += [f"{side['seconds_to_prepare']:.3g}"]
        if measured:
            row += [f"{side['whole_epoch_seconds']:.4g}" if "whole_epoch_seconds" in side else "-"]
        rows.append(row)
    return _table([*header, "a whole epoch s"] if measured else header, rows)


def _shares(sides: dict) -> str:
    rows = []
    for name, side in sides.items():
        parts = parts_of_epoch(side)
        rows.append([name, *(f"{100 * seconds / sum(parts.values()):.1f}" for seconds in parts.values())])
    return _table(["side", *PARTS, VALIDATION], rows)


def _encoder(sides: dict) -> str:
    header = ["side", "GFLOP/item", "GFLOP/s", "fp32 matrix", "bf16 matrix", "% of fp32", "% of bf16"]
    rows = []
    for name, side in sides.items():
        rates, shares, found = side["matrix_operations_per_second"], side["share_of_matrix_rate"], side["profile"]
        figures = [found["operations_per_item"] / 1e9, found["operations_per_second"] / 1e9]
        figures += [rates["fp32"] / 1e9, rates["bf16"] / 1e9, 100 * shares["fp32"], 100 * shares["bf16"]]
        rows.append([name, *(f"{figure:.4g}" for figure in figures)])
    return _table(header, rows)


def _memory(sides: dict) -> str:
    naive = next(iter(sides.values()))["memory"]["peak_bytes"]
    rows = []
    for name, side in sides.items():
        peak = side["memory"]["peak_bytes"]
        rows.append([name, f"{peak / _MIB:.0f}", f"{peak / naive:.2f}"])
    return _table(["side", "MiB", "of naive"], rows)


def _personalisation(cost: dict) -> str:
    return "\n".join(
        [
            f"training epoch: {cost['epoch_seconds']:.4g} s, with one group {cost['one_group_epoch_seconds']:.4g} s, "
            f"ratio {_spread(cost['ratio'])}",
            f"memory per further group: {cost['counted_bytes_per_group'] / _MIB:.3f} MiB counted (module, projector, "
            f"optimiser state), {cost['measured_bytes_per_group'] / _MIB:.3f} MiB measured",
        ]
    )


def plot(result: dict, file: Path) -> None:
    """Draw seconds of a stage-3 epoch with validation, by part, one group of bars a side; needs matplotlib."""
    from matplotlib import pyplot

    sides = result["sides"]
    names = [*PARTS, VALIDATION]
    figure, axes = pyplot.subplots(figsize=(10, 5.5), layout="constrained")
    width = 0.8 / len(sides)
    for number, (name, side) in enumerate(sides.items()):
        parts = parts_of_epoch(side)
        places = [place + (number - (len(sides) - 1) / 2) * width for place in range(len(names) + 1)]
        bars = axes.bar(places, [*parts.values(), sum(parts.values())], width, label=name)
        axes.bar_label(bars, fmt=lambda seconds: f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}", fontsize=7)
    axes.set_yscale("log")
    axes.set_xticks(range(len(names) + 1), [name.replace(" ", "\n", 1) for name in [*names, "all"]])
    axes.margins(y=0.15)
    axes.set_xlabel("part of a stage-3 epoch with validation")
    axes.set_ylabel("seconds (logarithmic)")
    shop, machine = result["shop"], result["machine"]
    axes.set_title(
        f"PerPEFT: {shop['encoder']}, {shop['items']} items, {shop['users']} users, {shop['groups']} groups, "
        f"{machine['gpu'] or machine['processor']}"
    )
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
