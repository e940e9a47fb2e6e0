"""Users into groups: k-means, by chance, or by how well each group's module predicts them."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from recbole_perpeft.utils.mapped_rows import blocks, rows_from

COMPONENTS = 32  # principal components that coherence looks at
_ITEMS = 16_384  # in double precision at a time


def random_groups(n: int, num_groups: int, seed: int) -> np.ndarray:
    """Groups ``[n]`` of equal size by chance."""
    return np.random.default_rng(seed).permutation(n) % num_groups


def kmeans_groups(points: np.ndarray, num_groups: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """K-means (paper, section on user grouping): scikit-learn's, best of ten seeded starts.

    Parameters
    ----------
    points
        What is known of each user, ``[n, d]``.

    Returns
    -------
    tuple
        Group of each user, ``[n]``, and centre of each group, ``[k, d]``. If users have fewer than ``num_groups``
        different points, there is a group for each of these, and the others stay empty.
    """
    distinct = len(np.unique(points, axis=0)) if points.shape[1] else 1
    if distinct == 1:
        return np.zeros(len(points), dtype=np.int64), points[:1]
    from sklearn.cluster import KMeans  # late: only who makes groups waits for it
    from sklearn.exceptions import ConvergenceWarning

    kmeans = KMeans(min(num_groups, distinct), n_init=10, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of points that all but coincide: a group stays empty
        groups = kmeans.fit_predict(points.astype(np.float64))
    return groups.astype(np.int64), kmeans.cluster_centers_


def whitened(features: torch.Tensor, components: int = COMPONENTS) -> np.ndarray:
    """Items by their principal components, each scaled to variance 1, ``[n_items, components]``; zeros for padding.

    Components are eigenvectors of the covariance, on the CPU whatever the device, so that groups are the same: of a
    large catalogue only some items are in double precision at a time.

    Parameters
    ----------
    features
        Content features of all items, ``[n_items, content_size]``; row 0 is padding.
    components
        How many there are at most.
    """
    items = rows_from(features, 1)
    mean = sum(block.cpu().double().sum(dim=0) for block in blocks(items, _ITEMS)) / len(items)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.double)
    for block in blocks(items, _ITEMS):
        rows = block.cpu().double() - mean
        covariance.addmm_(rows.T, rows)
    squares, directions = torch.linalg.eigh(covariance / len(items))
    squares, directions = squares.flip(0)[:components], directions.flip(1)[:, :components]
    kept = squares > (1e-6**2) * squares[0]
    map_to_white = directions[:, kept] / squares[kept].sqrt()
    white = np.zeros((len(features), int(kept.sum())))
    for first, block in zip(range(1, len(features), _ITEMS), blocks(items, _ITEMS), strict=True):
        white[first : first + len(block)] = ((block.cpu().double() - mean) @ map_to_white).numpy()
    return white


def coherence(white: np.ndarray, sequences: Sequence[np.ndarray]) -> np.ndarray:
    """What the purchases of each user have in common: one row per user, ``[n, components]``.

    In each component, the mean product of two different purchases of a user is zero if they buy without regard to it,
    and large if they buy alike, whatever value they like. So users are near each other who look at the same aspects of
    items, rather than who like the same items; the final sequence representation tells the latter. Its square root,
    with its sign, tames the few who buy very alike.

    Parameters
    ----------
    white
        From :func:`whitened`.
    sequences
        Purchases of each user.
    """
    rows = []
    for items in sequences:
        own = white[items]  # [purchases, components]
        pairs = max(1, len(items) * (len(items) - 1))
        rows.append((own.sum(axis=0) ** 2 - (own**2).sum(axis=0)) / pairs)
    return np.sign(rows) * np.sqrt(np.abs(rows))


def coherence_of(white: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
    """As :func:`coherence`, of padded ``histories [n, length]``, ``[n, components]``."""
    own = F.embedding(histories, white)  # [n, length, components]
    lengths = (histories > 0).sum(dim=1, keepdim=True)  # [n, 1]
    products = (own.sum(dim=1) ** 2 - (own**2).sum(dim=1)) / (lengths * (lengths - 1)).clamp(min=1)
    return products.sign() * products.abs().sqrt()


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


def nearest(points: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Which of ``centres [k, d]`` is nearest to each of ``points [n, d]``, ``[n]``."""
    # not by matrix products, whose rounding would move users who stand between two centres
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
