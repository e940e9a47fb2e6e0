"""What sets groups of users apart in what they bought: items, and words of their titles."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_WORD = re.compile(r"[^\W\d_]{2,}")  # letters of any script; numbers and single letters tell little
_CLEAR = 1.96  # standard deviations: what chance alone goes beyond in one of forty cases


@dataclass(frozen=True)
class Typical:
    """An item or a word that a group's purchases have more often than those of all others.

    Attributes
    ----------
    kind
        The number of the item, or the word.
    z
        Of :func:`log_odds`.
    times
        Purchases of the group with it.
    ratio
        Its share of the group's purchases over its share of all purchases.
    """

    kind: int | str
    z: float
    times: int
    ratio: float


def purchases_by_group(
    sequences: Mapping[int, np.ndarray], groups: np.ndarray, num_groups: int, n_items: int
) -> np.ndarray:
    """How often each group bought each item, ``[num_groups, n_items]``.

    Parameters
    ----------
    sequences
        User id to purchases.
    groups
        Group of every user id, ``[n_users]``; of those below 0 nothing is counted.
    """
    counts = np.zeros((num_groups, n_items), dtype=np.int64)
    for user, items in sequences.items():
        if groups[user] >= 0:
            np.add.at(counts[groups[user]], items, 1)
    return counts


def log_odds(counts: np.ndarray) -> np.ndarray:
    """How much more likely each kind is in each group than in all others, in standard deviations, ``[groups, kinds]``.

    The log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn, "Fightin' Words", Political
    Analysis 2008, equations 16 and 20 to 22). The prior has as many pseudo-counts as there are kinds, shared out as the
    kinds are in all groups together: a kind that was counted once sets nobody apart.

    Parameters
    ----------
    counts
        ``[groups, kinds]``.
    """
    counts = counts.astype(np.float64)
    total = counts.sum(axis=0)
    known = total > 0
    z = np.zeros_like(counts)
    if known.sum() < 2:
        return z
    counts, total = counts[:, known], total[known]
    prior = len(total) * total / total.sum()  # [kinds]
    other = total - counts
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = _log_odds_of(counts, prior) - _log_odds_of(other, prior)
        z[:, known] = difference / np.sqrt(1 / (counts + prior) + 1 / (other + prior))
    return np.nan_to_num(z, posinf=0.0, neginf=0.0)


def _log_odds_of(counts: np.ndarray, prior: np.ndarray) -> np.ndarray:
    mine = counts + prior
    return np.log(mine / (mine.sum(axis=1, keepdims=True) - mine))


def typical_items(counts: np.ndarray, k: int) -> list[list[Typical]]:
    """The ``k`` most over-represented items of each group, of ``counts [groups, n_items]``; fewer, if few are so."""
    return _most(counts, range(counts.shape[1]), k)


def typical_words(counts: np.ndarray, titles: Sequence[str], k: int) -> list[list[Typical]]:
    """The ``k`` most over-represented words of the titles of what each group bought.

    A purchase counts once for each word of the item's title.

    Parameters
    ----------
    counts
        ``[groups, n_items]``.
    titles
        ``[n_items]``.
    """
    numbers: dict[str, int] = {}
    of_item, of_word = [], []
    for item, title in enumerate(titles):
        for word in dict.fromkeys(words_in(title)):
            of_item.append(item)
            of_word.append(numbers.setdefault(word, len(numbers)))
    if not numbers:
        return [[] for _ in counts]
    words = np.stack([np.bincount(of_word, weights=row[of_item], minlength=len(numbers)) for row in counts])
    return _most(words.astype(np.int64), list(numbers), k)


def words_in(title: str) -> list[str]:
    """The words of a title, in small letters and in their order."""
    return _WORD.findall(html.unescape(title).lower())


def _most(counts: np.ndarray, kinds: Sequence, k: int) -> list[list[Typical]]:
    z = log_odds(counts)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    whole = (counts.sum(axis=0) / max(counts.sum(), 1)).clip(min=1e-300)
    found = []
    for group, values in enumerate(z):
        best = [place for place in np.argsort(-values, kind="stable")[:k] if values[place] > _CLEAR]
        found.append(
            [
                Typical(kinds[p], float(values[p]), int(counts[group, p]), float(shares[group, p] / whole[p]))
                for p in best
            ]
        )
    return found
