"""Whether two rows of a comparison differ: paired over users and over seeds."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ttest_1samp

from recbole_perpeft.experiments.worker import gain


@dataclass(frozen=True)
class Difference:
    """Of one row to another in a metric.

    Attributes
    ----------
    mean : float
        Mean over users and seeds.
    p_users : float or None
        Two-sided p of a t-test over the users, of each one's difference averaged over the seeds that had them.
    p_seeds : float or None
        The same over the seeds, of their mean differences. Both are None for a single seed.
    """

    mean: float
    p_users: float | None
    p_seeds: float | None


def difference(first: Sequence[dict], second: Sequence[dict], metric: str) -> Difference:
    """Difference of ``first`` to ``second``, results of the same seeds in the same order.

    Parameters
    ----------
    first, second
        Results with ``ranks``: the rank of each user's test purchase; of the same users for the same seed.
    metric
        NDCG@k, say; see :func:`~recbole_perpeft.experiments.worker.gain`.
    """
    of_users, of_seeds = defaultdict(list), []  # a seed may draw a sample of users of its own
    for one, other in zip(first, second, strict=True):
        values = {user: gain(metric, rank) - gain(metric, other["ranks"][user]) for user, rank in one["ranks"].items()}
        of_seeds.append(np.mean(list(values.values())))
        for user, value in values.items():
            of_users[user].append(value)
    mean = float(np.mean(of_seeds))
    if len(of_seeds) < 2:
        return Difference(mean, None, None)
    return Difference(mean, _p(np.array([np.mean(values) for values in of_users.values()])), _p(np.array(of_seeds)))


def _p(differences: np.ndarray) -> float:
    if np.ptp(differences) == 0:  # no variance to test against
        return 1.0 if differences[0] == 0 else 0.0
    return float(ttest_1samp(differences, 0.0).pvalue)
