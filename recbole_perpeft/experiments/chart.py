"""Bars of a comparison."""

import re
import textwrap
from pathlib import Path

_LETTERS = 32  # of a line of a row's name


def write_chart(summary: dict, file: Path) -> str | None:
    """Bars of the tested metric with standard deviations; gives the reason if it could not be drawn.

    Parameters
    ----------
    summary
        From :func:`~recbole_perpeft.experiments.tables.summarise`.
    file
        A PNG.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return 'matplotlib is missing: pip install "recbole-perpeft[benchmarks]"'
    lines, metric = summary["rows"], summary["metric"]
    # a model's settings may be many, without a space to break at
    names = [textwrap.fill(re.sub(r",\b", ", ", line["row"]), _LETTERS) for line in lines]
    height = sum(0.18 + 0.17 * len(name.splitlines()) for name in names)
    figure = Figure(figsize=(8, 1.2 + height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    values = [line["test"][metric] for line in lines]
    colours = ["tab:orange" if line["variant"] == "perpeft" else "tab:blue" for line in lines]
    errors = [value["std"] or 0.0 for value in values]
    axes.barh(names, [value["mean"] for value in values], xerr=errors, color=colours)
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric}, test, mean and standard deviation over seeds")
    figure.savefig(file, dpi=120)
    return None
