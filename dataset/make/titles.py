"""Writing of titles: a noun with modifiers before it and phrases after it, in varied order."""

import numpy as np

from dataset.make.aspects import ASPECTS, CLOSINGS, FILLERS, GENERIC_NOUNS, INDEX

# more modifiers than this before the noun read badly; the others go behind it
MAX_FRONT = 3
FRONT_SHARE = 0.45
CLOSING_SHARE = 0.3


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.random() * len(options))]


def write_title(values: np.ndarray, mentioned: np.ndarray, rng: np.random.Generator) -> str:
    """Write the title of one item.

    Parameters
    ----------
    values : ndarray of int, shape [n_aspects]
        The item's value of every aspect.
    mentioned : ndarray of bool, shape [n_aspects]
        Which aspects the title names.
    rng : numpy.random.Generator
        Source of word choice and order.

    Returns
    -------
    str
        For example ``"Padded travel bag, made of canvas, Series Fjord"``.
    """
    noun = _pick(GENERIC_NOUNS, rng)
    front = [_pick(FILLERS, rng) for _ in range(int(rng.random() * 3))]
    tail: list[str] = []
    for column in rng.permutation(len(ASPECTS)):
        if not mentioned[column]:
            continue
        aspect = ASPECTS[column]
        word = _pick(tuple(aspect.values.values())[values[column]], rng)
        if column == INDEX["product"]:
            noun = word
        elif aspect.front and len(front) < MAX_FRONT and rng.random() < FRONT_SHARE:
            front.append(_pick(aspect.front, rng).format(word))
        else:
            tail.append(_pick(aspect.tail, rng).format(word))
    if rng.random() < CLOSING_SHARE:
        tail.append(_pick(CLOSINGS, rng))
    title = ", ".join([" ".join([*front, noun]), *tail])
    return title[0].upper() + title[1:]


def write_titles(values: np.ndarray, mentioned: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Write one title per item.

    Parameters
    ----------
    values : ndarray of int, shape [n_items, n_aspects]
        Values of the items.
    mentioned : ndarray of bool, shape [n_items, n_aspects] or [n_aspects]
        Which aspects the titles name.
    rng : numpy.random.Generator
        Source of word choice and order.

    Returns
    -------
    list of str
        The titles, in the order of the items.
    """
    mentioned = np.broadcast_to(mentioned, values.shape)
    return [write_title(*row, rng) for row in zip(values, mentioned, strict=True)]
