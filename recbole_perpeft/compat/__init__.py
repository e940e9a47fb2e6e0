"""Repairs of RecBole 1.2, made in place when ``recbole_perpeft`` is imported; nothing else in the package patches.

``libraries`` lets it run on today's numpy, scipy, pandas and torch. The others repair faults of RecBole's own that
falsify a number: ``scores`` how models rank, ``transforms`` what they read in evaluation, ``metrics`` what is computed.
"""

from recbole_perpeft.compat import libraries, metrics, scores, transforms


def apply() -> None:
    """Make all repairs. Can be called twice."""
    libraries.apply()  # first: without it the others could not import RecBole's models
    scores.apply()
    transforms.apply()
    metrics.apply()
