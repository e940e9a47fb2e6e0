"""Users into groups: k-means on their representations, or by chance; nearest centroid for users who come later."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans

from recbole_perpeft.errors import SettingError


@dataclass(frozen=True)
class Grouping:
    """Groups of users.

    Attributes
    ----------
    groups : numpy.ndarray
        Group of each user, ``[n]``.
    centroids : numpy.ndarray
        Mean representation of each group, ``[num_groups, d]``.
    """

    groups: np.ndarray
    centroids: np.ndarray

    @property
    def sizes(self) -> list[int]:
        """Users per group."""
        return np.bincount(self.groups, minlength=len(self.centroids)).tolist()


def group_users(representations: np.ndarray, method: str, num_groups: int, seed: int) -> Grouping:
    """Group users by ``method`` (paper, section on user grouping: k-means with 8 groups).

    Parameters
    ----------
    representations
        One row per user, ``[n, d]``.
    method
        ``kmeans``: scikit-learn's, best of ten seeded starts; ``random``: groups of equal size by chance.

    Raises
    ------
    SettingError
        If there are more groups than users, or a group ends without users.
    """
    n = len(representations)
    if num_groups > n:
        raise SettingError(f"num_groups: {num_groups} is more than the {n} users. Set it to at most {n}.")
    if method == "random":
        groups = np.random.default_rng(seed).permutation(n) % num_groups
    else:
        distinct = len(np.unique(representations, axis=0))
        if distinct < num_groups:
            raise SettingError(
                f"num_groups: {num_groups}, but the users have only {distinct} different representations: "
                f"{num_groups - distinct} groups would end with no users. Set num_groups to at most {distinct}, train "
                "stage 1 for longer (global_epochs), or set grouping: random."
            )
        groups = KMeans(num_groups, n_init=10, random_state=seed).fit_predict(representations.astype(np.float64))
    centroids = np.stack([representations[groups == group].mean(axis=0) for group in range(num_groups)])
    return Grouping(groups.astype(np.int64), centroids.astype(np.float32))


def regroup_users(losses: np.ndarray) -> np.ndarray:
    """The group ``[n]`` whose module predicts each user best, with no group below a quarter of the mean size.

    A smaller group is filled up with the users who lose least by it.

    Parameters
    ----------
    losses
        Mean loss of each user's training purchases under each group's module, ``[n, num_groups]``.
    """
    n, num_groups = losses.shape
    groups, smallest = losses.argmin(axis=1), n // (4 * num_groups)
    for group in range(num_groups):
        sizes = np.bincount(groups, minlength=num_groups)
        spare = sizes[groups] > smallest  # [n] whose group can do without one; its own members are not asked
        regret = np.where(spare & (groups != group), losses[:, group] - losses.min(axis=1), np.inf)
        groups[np.argsort(regret, kind="stable")[: max(0, smallest - sizes[group])]] = group
    return groups


def nearest_centroid(representations: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """The group ``[n]`` whose centroid ``[num_groups, d]`` is nearest to each representation ``[n, d]``."""
    return torch.cdist(representations, centroids).argmin(dim=1)
