"""Users into groups: k-means, or by chance; nearest centroid for users who come later."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans

from recbole_perpeft.errors import SettingError

_COMPONENTS = 32  # principal components that coherence looks at


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

    @classmethod
    def of(cls, groups: np.ndarray, representations: np.ndarray, num_groups: int) -> "Grouping":
        """``groups [n]`` with the centroids of the users' representations ``[n, d]``."""
        centroids = [representations[groups == group].mean(axis=0) for group in range(num_groups)]
        return cls(groups.astype(np.int64), np.stack(centroids).astype(np.float32))

    @property
    def sizes(self) -> list[int]:
        """Users per group."""
        return np.bincount(self.groups, minlength=len(self.centroids)).tolist()


def group_users(representations: np.ndarray, method: str, num_groups: int, seed: int) -> Grouping:
    """Group users by ``method`` (paper, section on user grouping: k-means with 8 groups).

    Parameters
    ----------
    representations
        What k-means sees of each user, ``[n, d]``.
    method
        ``random``: groups of equal size by chance; else scikit-learn's k-means, best of ten seeded starts.

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
    return Grouping.of(groups, representations, num_groups)


def coherence(features: np.ndarray, sequences: Sequence[np.ndarray]) -> np.ndarray:
    """What the purchases of each user have in common: one row per user, ``[n, components]``.

    Features are rotated to their principal components, each scaled to variance 1. In each, the mean product of two
    different purchases of a user is zero if he buys without regard to it, and large if he buys alike, whatever value he
    likes. So users are near each other who look at the same aspects of items, rather than who like the same items; the
    final sequence representation tells the latter. Its square root, with its sign, tames the few who buy very alike.

    Parameters
    ----------
    features
        Content features of all items, ``[n_items, content_size]``; row 0 is padding.
    sequences
        Training purchases of each user.
    """
    centred = features[1:].astype(np.float64) - features[1:].mean(axis=0)  # [n_items - 1, content_size]
    rotated, scales, _ = np.linalg.svd(centred, full_matrices=False)
    kept = scales[:_COMPONENTS] > 1e-6 * scales[0]
    white = rotated[:, :_COMPONENTS][:, kept] * np.sqrt(len(centred))  # [n_items - 1, components]
    rows = []
    for items in sequences:
        own = white[items - 1]  # [purchases, components]
        pairs = max(1, len(items) * (len(items) - 1))
        rows.append((own.sum(axis=0) ** 2 - (own**2).sum(axis=0)) / pairs)
    return np.sign(rows) * np.sqrt(np.abs(rows))


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
