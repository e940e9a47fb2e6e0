"""How many times as much: of what was measured in the same turns, the median and the spread."""

import statistics
from collections.abc import Sequence


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """Median, least and most of the turns' quotients."""
    each = [upper / lower for upper, lower in zip(numerator, denominator, strict=True)]
    return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def in_words(found: dict[str, float]) -> str:
    """What :func:`ratios` has found, as tables have it."""
    return f"{found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f})"
