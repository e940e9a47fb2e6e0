"""How well the demo's test purchases can be ranked at all: by one who knows how the generator drew them.

    python benchmarks/generator.py

Prints NDCG@20 of two rankings by the generator's own probabilities, with the history left out: by each user's tastes
as they were at the end, which nobody can see; and by what the purchases before the last one tell of the tastes (Bayes'
rule over all groups, tastes and changes of taste that the generator knows, popularity given). No model can be expected
to be above the second.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for dataset.make, which is not installed

import numpy as np  # noqa: E402

from dataset.make.aspects import INDEX, N_VALUES  # noqa: E402
from dataset.make.catalogue import Catalogue, make_catalogue  # noqa: E402
from dataset.make.demo import N_ITEMS, N_USERS, SEED  # noqa: E402
from dataset.make.purchases import (  # noqa: E402
    DRIFT_SHARE,
    GROUPS,
    RANDOM_SHARE,
    STRENGTH,
    TASTES,
    make_purchases,
    utilities,
)
from recbole_perpeft.experiments.worker import gain  # noqa: E402

METRIC = "NDCG@20"


def gain_of(scores: np.ndarray, history: np.ndarray, target: int) -> float:
    """NDCG@20 of one target among the items outside ``history``, by ``scores [n_items]``."""
    ranked = scores.copy()
    ranked[history] = -np.inf
    return gain(METRIC, 1 + (ranked > ranked[target]).sum())


def _choices(aspect: str, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Every first and second choice of values, ``[c, 2]``, and what each adds for a value, ``[c, n_values]``."""
    n = N_VALUES[INDEX[aspect]]
    choices = np.array([(first, second) for first in range(n) for second in range(n) if first != second])
    added = np.zeros((len(choices), n))
    np.put_along_axis(added, choices, STRENGTH * weight * np.array(TASTES), axis=1)
    return choices, added


def tastes_of(group: dict[str, float], catalogue: Catalogue, popularity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All tastes that users of a group can have, and what they buy.

    Returns
    -------
    tuple of numpy.ndarray
        First and second choice in the group's first aspect, ``[c, 2]``, and the probability of every item by the
        choices in its first and its second aspect, ``[c, d, n_items]``.
    """
    (one, of_one), (other, of_other) = group.items()
    choices, first = _choices(one, of_one)
    _, second = _choices(other, of_other)
    utility = first[:, None, catalogue.values[:, INDEX[one]]] + second[None, :, catalogue.values[:, INDEX[other]]]
    odds = np.exp(utility + popularity)
    odds /= odds.sum(axis=2, keepdims=True)
    return choices, (1 - RANDOM_SHARE) * odds + RANDOM_SHARE / len(popularity)


def likelihoods(logarithms: np.ndarray, choices: np.ndarray, n_purchases: int) -> np.ndarray:
    """How likely a user's purchases are by each of the tastes at the end, ``[c, d]``, up to a factor.

    Parameters
    ----------
    logarithms
        Of the probability of each purchase that is known, by tastes, ``[c, d, known]``.
    choices
        From :func:`tastes_of`.
    n_purchases
        Of the user in all: the first choice in the first aspect may have changed after any of them but the last.

    Returns
    -------
    numpy.ndarray
        The logarithms, ``[c, d]``.
    """
    known, seconds = logarithms.shape[2], choices[:, 1]
    until = np.concatenate([np.zeros((*logarithms.shape[:2], 1)), logarithms.cumsum(axis=2)], axis=2)
    parts = [np.log(1 - DRIFT_SHARE) + until[:, :, -1]]
    for change in range(1, n_purchases):
        before = until[:, :, min(change, known)]
        height = before.max()
        of_each = np.exp(before - height)
        of_second = np.zeros((seconds.max() + 1, of_each.shape[1]))  # of all first choices beside a second one
        np.add.at(of_second, seconds, of_each)
        n_others = seconds.max() - 1  # values that are neither this first choice nor the second
        others = (of_second[seconds] - of_each).clip(min=1e-300) / n_others
        share = DRIFT_SHARE / (n_purchases - 1)
        parts.append(np.log(share * others) + height + until[:, :, -1] - before)
    return np.logaddexp.reduce(parts, axis=0)


def expectations(catalogue: Catalogue, popularity: np.ndarray, sequences: list[np.ndarray]) -> np.ndarray:
    """The probability of every item to be each user's last purchase, given those before it, ``[n_users, n_items]``."""
    evidence, by_group = [], []
    for group in GROUPS:
        choices, probability = tastes_of(group, catalogue, popularity)
        logarithms, flat = np.log(probability), probability.reshape(-1, len(popularity)).astype(np.float32)
        of_users, expected = [], []
        for items in sequences:
            likely = likelihoods(logarithms[:, :, items[:-1]], choices, len(items)).ravel()
            of_users.append(np.logaddexp.reduce(likely) - np.log(len(likely)))
            expected.append(np.exp(likely - np.logaddexp.reduce(likely)).astype(np.float32) @ flat)
        evidence.append(of_users)
        by_group.append(np.stack(expected))
    shares = np.exp(np.array(evidence) - np.logaddexp.reduce(evidence, axis=0))  # [groups, n_users]
    return np.einsum("gu,gui->ui", shares, by_group)


def rankings() -> Iterator[tuple[str, float]]:
    """What each ranking goes by, and its NDCG@20."""
    catalogue = make_catalogue(N_ITEMS, SEED)
    made = make_purchases(catalogue, N_USERS, SEED)
    sequences = np.split(made.items, np.bincount(made.users).cumsum()[:-1])
    true = [utilities(tastes, catalogue.values, made.popularity) for tastes in made.tastes]
    inferred = expectations(catalogue, made.popularity, sequences)
    for name, scores in (("the tastes", true), ("the purchases before", inferred)):
        gains = [gain_of(of, items[:-1], items[-1]) for of, items in zip(scores, sequences, strict=True)]
        yield name, float(np.mean(gains))


def main() -> None:
    print("| known of a user | NDCG@20, test |\n| --- | --- |")
    for name, mean in rankings():
        print(f"| {name} | {mean:.4f} |", flush=True)


if __name__ == "__main__":
    main()
