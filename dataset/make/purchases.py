"""Users of several interest groups and what they buy.

The assumption of the catalogue: users of different groups look at different aspects of the same items. A user
draws tastes (preferred values) for the two aspects of his group; he buys with the probability

    softmax over the items of ( STRENGTH * sum over the aspects of weight * taste + popularity ),

except for a share of purchases that are random. Nobody buys an item twice.
"""

from dataclasses import dataclass

import numpy as np

from dataset.make.aspects import INDEX, N_VALUES
from dataset.make.catalogue import Catalogue

# what every group looks at, and how much
GROUPS: tuple[dict[str, float], ...] = (
    {"motif": 1.0, "colour": 0.5},
    {"colour": 1.0, "product": 0.5},
    {"brand": 1.0, "product": 0.5},
    {"material": 1.0, "use": 0.5},
    {"use": 1.0, "product": 0.5},
    {"series": 1.0, "brand": 0.5},
)
# what everybody looks at in the control experiment
SAME_ASPECTS: dict[str, float] = {"motif": 1.0, "material": 0.5}

# a user's tastes for his first and second choice of an aspect's values
TASTES = (1.0, 0.7)
STRENGTH = 7.0
POPULARITY_SPREAD = 0.5
RANDOM_SHARE = 0.1
# share of users whose first choice in the first aspect changes somewhere along the way
DRIFT_SHARE = 0.3

SHORTEST, LONGEST = 5, 15
MEAN_LENGTH = 10.0
FIRST_DAY = 1_672_531_200  # 1 January 2023
DAY = 86_400


@dataclass(frozen=True)
class Purchases:
    """Who bought what and when, and why.

    Attributes
    ----------
    users, items : ndarray of int, shape [n_purchases]
        Row numbers, counted from 0, sorted by user and time.
    timestamps : ndarray of int, shape [n_purchases]
        Seconds since 1970, increasing within a user.
    groups : ndarray of int, shape [n_users]
        Interest group of every user.
    tastes : ndarray of float, shape [n_users, n_aspects, most values]
        What the user adds to an item's utility for a value of an aspect, at his last purchase.
    popularity : ndarray of float, shape [n_items]
        What every item adds by itself.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    groups: np.ndarray
    tastes: np.ndarray
    popularity: np.ndarray

    @property
    def user_ids(self) -> list[str]:
        """Tokens of the users: ``u00001`` and on."""
        return [f"u{number:05d}" for number in range(1, len(self.groups) + 1)]


def utilities(tastes: np.ndarray, values: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Utility of every item for one user.

    Parameters
    ----------
    tastes : ndarray of float, shape [n_aspects, most values]
        What the user adds for a value of an aspect.
    values : ndarray of int, shape [n_items, n_aspects]
        Values of the items.
    popularity : ndarray of float, shape [n_items]
        What every item adds by itself.

    Returns
    -------
    ndarray of float, shape [n_items]
        The logarithm of the odds to be bought.
    """
    attended = np.flatnonzero(tastes.any(axis=1))
    return popularity + sum(tastes[aspect, values[:, aspect]] for aspect in attended)


def _draw_tastes(weights: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Tastes of a new user, shape [n_aspects, most values]."""
    tastes = np.zeros((len(N_VALUES), max(N_VALUES)))
    for name, weight in weights.items():
        aspect = INDEX[name]
        preferred = rng.permutation(N_VALUES[aspect])[: len(TASTES)]
        tastes[aspect, preferred] = STRENGTH * weight * np.array(TASTES)
    return tastes


def _drift(tastes: np.ndarray, aspect: int, rng: np.random.Generator) -> np.ndarray:
    """The same tastes with another first choice in one aspect."""
    drifted = tastes.copy()
    row = drifted[aspect, : N_VALUES[aspect]]
    first, other = int(row.argmax()), int(rng.choice(np.flatnonzero(row == 0)))
    row[other], row[first] = row[first], 0.0
    return drifted


def _buy(utility: np.ndarray, n_purchases: int, owned: list[int], rng: np.random.Generator) -> None:
    """Append purchases of items that are not owned yet to `owned`."""
    cumulated = np.cumsum(np.exp(utility - utility.max()))
    wanted = len(owned) + n_purchases
    while len(owned) < wanted:
        if rng.random() < RANDOM_SHARE:
            item = int(rng.random() * len(utility))
        else:
            item = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
        if item not in owned:
            owned.append(item)


def make_purchases(catalogue: Catalogue, n_users: int, seed: int, same_aspects: bool = False) -> Purchases:
    """Let users buy from a catalogue.

    Parameters
    ----------
    catalogue : Catalogue
        The items; more than `LONGEST` of them.
    n_users : int
        Number of users.
    seed : int
        The same seed gives the same purchases.
    same_aspects : bool
        All groups look at the same aspects (`SAME_ASPECTS`) instead of at their own: a control experiment.

    Returns
    -------
    Purchases
        5 to 15 purchases of every user.
    """
    if len(catalogue) <= LONGEST:
        raise ValueError(f"n_items={len(catalogue)} is too few: users buy up to {LONGEST} different items")
    rng = np.random.default_rng([seed, 2])
    popularity = rng.normal(0, POPULARITY_SPREAD, size=len(catalogue))
    groups = rng.integers(0, len(GROUPS), size=n_users)
    share = (MEAN_LENGTH - SHORTEST) / (LONGEST - SHORTEST)
    lengths = SHORTEST + rng.binomial(LONGEST - SHORTEST, share, size=n_users)

    items: list[int] = []
    timestamps: list[np.ndarray] = []
    last_tastes = []
    for group, length in zip(groups, lengths, strict=True):
        weights = SAME_ASPECTS if same_aspects else GROUPS[group]
        tastes = _draw_tastes(weights, rng)
        owned: list[int] = []
        if rng.random() < DRIFT_SHARE:
            _buy(utilities(tastes, catalogue.values, popularity), int(rng.integers(1, length)), owned, rng)
            tastes = _drift(tastes, INDEX[next(iter(weights))], rng)
        _buy(utilities(tastes, catalogue.values, popularity), length - len(owned), owned, rng)
        items += owned
        start = FIRST_DAY + rng.uniform(0, 400) * DAY
        timestamps.append((start + np.cumsum(1 + rng.exponential(20 * DAY, size=length))).astype(np.int64))
        last_tastes.append(tastes)
    return Purchases(
        users=np.repeat(np.arange(n_users), lengths),
        items=np.array(items),
        timestamps=np.concatenate(timestamps),
        groups=groups,
        tastes=np.stack(last_tastes).astype(np.float32),
        popularity=popularity,
    )
