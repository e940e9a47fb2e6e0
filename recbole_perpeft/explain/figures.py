"""The figures of a report as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recbole_perpeft.utils.errors import RequestError

_DPI = 110
_MOST_POINTS = 4000  # of a map: more are one blot
_MOST_LETTERS = 18  # of a token


def check_matplotlib() -> None:
    """Refuse to begin without matplotlib.

    Raises
    ------
    RequestError
        Names the cure.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise RequestError('matplotlib is missing: pip install "recbole-perpeft[explain]"') from error


def draw_map(file: Path, points: np.ndarray, shares: np.ndarray, groups: np.ndarray) -> None:
    """Users as ``points [n, 2]`` in the colours of their ``groups [n]``; ``shares [2]`` of the variance."""
    figure, axes = _canvas(7.2, 5.2)
    drawn = np.arange(0, len(points), max(1, -(-len(points) // _MOST_POINTS)))
    colours = _colours()
    for group in np.unique(groups).tolist():
        rows = drawn[groups[drawn] == group]
        colour = colours[group % len(colours)]
        axes.scatter(*points[rows].T, s=9, color=colour, alpha=0.65, linewidths=0, label=f"group {group}")
    axes.legend(markerscale=2, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xlabel(f"first component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({shares[1]:.0%})")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=_DPI)


def draw_tokens(file: Path, pieces: Sequence[str], rows: Mapping[str, np.ndarray]) -> None:
    """Attention over the tokens of a text, a row for each view: ``[n]`` each, of sum 1."""
    table = np.stack(list(rows.values()))
    short = [piece.replace("$", r"\$")[:_MOST_LETTERS] for piece in pieces]
    _draw_table(file, table, list(rows), short, "{:.1%}", "share of the attention over the title's tokens")


def draw_movement(file: Path, table: np.ndarray, names: Sequence[str], layers: Sequence[str]) -> None:
    """How far modules moved, ``[groups, layers]``."""
    _draw_table(file, table, list(names), list(layers), "{:.2f}", "norm of the change over that of stage 1's module")


def draw_patches(file: Path, picture: np.ndarray, views: Mapping[str, np.ndarray]) -> None:
    """Attention over the patches of a ``picture [H, W, 3]``: ``[rows, columns]`` each, of sum 1; dark: none."""
    number = len(views) + 1
    columns = min(number, 5)
    lines = -(-number // columns)
    figure, axes = _canvas(1.75 * columns, 1.95 * lines, lines, columns)
    axes = np.atleast_1d(axes).ravel()
    height, width = picture.shape[:2]
    most = max(view.max() for view in views.values())
    for place, (name, view) in zip(axes, [("the picture", None), *views.items()], strict=False):
        place.set_title(name, fontsize=9)
        if view is None:
            place.imshow(picture)
            continue
        brightness = np.kron(view / most, np.ones((-(-height // view.shape[0]), -(-width // view.shape[1]))))
        shown = picture / 255 * (0.15 + 0.85 * brightness[:height, :width, None])
        place.imshow(shown)
    for place in axes:
        place.axis("off")
    figure.savefig(file, dpi=_DPI)


def _draw_table(
    file: Path, table: np.ndarray, rows: Sequence[str], columns: Sequence[str], form: str, label: str
) -> None:
    figure, axes = _canvas(2.2 + 0.62 * len(columns), 1.5 + 0.32 * len(rows))
    image = axes.imshow(table, cmap="Blues", vmin=0, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    for place, value in np.ndenumerate(table):
        dark = value > 0.6 * table.max()
        axes.text(*place[::-1], form.format(value), ha="center", va="center", fontsize=7, color="w" if dark else "k")
    figure.colorbar(image, ax=axes, pad=0.02).set_label(label, fontsize=7)
    figure.savefig(file, dpi=_DPI)


def _canvas(width: float, height: float, *grid: int):
    """A figure and its axes, without the state that pyplot keeps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(*grid)


def _colours() -> list:
    from matplotlib import colormaps

    return list(colormaps["tab10"].colors)
