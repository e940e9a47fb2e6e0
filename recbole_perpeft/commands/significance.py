"""Whether two rows of a comparison differ: paired over users and over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ttest_1samp

from recbole_perpeft.commands.one_run import gain


@dataclass(frozen=True)
class Difference:
    """Of one row to another in a metric.

    Attributes
    ----------
    mean : float
        Mean over users and seeds.
    p_users : float or None
        Two-sided p of a t-test over the users, of each one's difference averaged over the seeds.
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
        Results with ``ranks``: the rank of each user's test purchase.
    metric
        NDCG@k, Hit@k or Recall@k.
    """
    of_seeds = []  # [seeds, users]
    for one, other in zip(first, second, strict=True):
        users = sorted(one["ranks"])
        of_seeds.append([gain(metric, one["ranks"][user]) - gain(metric, other["ranks"][user]) for user in users])
    values = np.array(of_seeds)
    if len(values) < 2:
        return Difference(float(values.mean()), None, None)
    return Difference(float(values.mean()), _p(values.mean(axis=0)), _p(values.mean(axis=1)))


def _p(differences: np.ndarray) -> float:
    if np.ptp(differences) == 0:  # no variance to test against
        return 1.0 if differences[0] == 0 else 0.0
    return float(ttest_1samp(differences, 0.0).pvalue)
