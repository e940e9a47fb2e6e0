"""Repairs of RecBole 1.2, made in place when ``recbole_perpeft`` is imported; nothing else in the package patches.

``libraries`` lets it run on today's numpy, scipy, pandas and torch. The others repair faults of RecBole's own that
falsify a number, or never end: ``scores`` how models rank, ``transforms`` what they read in evaluation, ``negatives``
what is drawn where nothing is left, ``metrics`` what is computed of rankings.
"""

from recbole_perpeft.utils.compat import libraries, metrics, negatives, scores, transforms


def apply() -> None:
    """Make all repairs. Can be called twice."""
    libraries.apply()  # first: without it the others could not import RecBole's models
    scores.apply()
    transforms.apply()
    negatives.apply()
    metrics.apply()
