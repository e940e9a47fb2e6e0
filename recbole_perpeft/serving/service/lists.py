"""Lists of several requests at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.utils.errors import PerPEFTError

# columns of a list, k each
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Asked:
    """A request for one list.

    Attributes
    ----------
    user : str or None
        Who it is for.
    history : tuple of str or None
        What a new user bought, where it is for one.
    options : tuple
        Names and values of :class:`~recbole_perpeft.serving.list_options.ListOptions`; texts and tuples, so that equal
        ones are told.
    """

    user: str | None
    history: tuple[str, ...] | None
    options: tuple[tuple[str, object], ...]


def lists_of(recommender: Recommender, asked: Sequence[Asked]) -> list[Columns | Exception]:
    """The list of each request, or why there is none; those with equal options are made together."""
    found: dict[int, Columns | Exception] = {}
    order = sorted(range(len(asked)), key=lambda number: _kind(asked[number]))
    for _, numbers in groupby(order, key=lambda number: _kind(asked[number])):
        numbers = list(numbers)
        found |= zip(numbers, _alike(recommender, [asked[number] for number in numbers]), strict=True)
    return [found[number] for number in range(len(asked))]


def _kind(request: Asked) -> tuple:
    return request.user is None, repr(request.options)


def _alike(recommender: Recommender, asked: Sequence[Asked]) -> list[Columns | Exception]:
    options = dict(asked[0].options)
    options["where"] = dict(options["where"])
    try:
        if asked[0].user is not None:
            blocks = list(recommender.lists([request.user for request in asked], **options))
        else:
            blocks = list(recommender.lists_new([request.history for request in asked], **options))
    except Exception as error:
        if len(asked) == 1 or not isinstance(error, PerPEFTError):
            return [error] * len(asked)
        return [_alike(recommender, [request])[0] for request in asked]  # one of them cannot be met
    k = options["k"]
    return [
        {name: values[start : start + k] for name, values in block.items()}
        for block in blocks
        for start in range(0, len(block["rank"]), k)
    ]
