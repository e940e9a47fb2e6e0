"""What groups buy, and whether their own modules serve them better than others' do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from recbole_perpeft.data.item_titles import item_titles
from recbole_perpeft.evaluation.ranked_rows import RankedRows
from recbole_perpeft.grouping.typical import purchases_by_group, typical_items, typical_words

_WORDS, _TITLES = 4, 5


def bought_by_groups(config, dataset, groups: np.ndarray) -> list[dict[str, list[str]]]:
    """What sets each group's training purchases apart.

    Parameters
    ----------
    dataset
        The training part.
    groups
        Group of every user id, ``[n_users]``.

    Returns
    -------
    list of dict
        Of each group its over-represented ``words``, the most so first, and ``titles`` of such items (their ids, where
        there are no titles); as many as are clearly so.
    """
    tokens = dataset.field2id_token[dataset.iid_field]
    titles = item_titles(config, tokens)
    counts = purchases_by_group(dataset.training_sequences(), groups, config["num_groups"], len(tokens))
    words = typical_words(counts, titles, _WORDS) if titles else [[] for _ in counts]
    names = titles or [str(token) for token in tokens]
    return [
        {"words": [str(word.kind) for word in of_group], "titles": [names[item.kind] for item in items]}
        for of_group, items in zip(words, typical_items(counts, _TITLES), strict=True)
    ]


def scores_by_module(
    model, config, ranked: Callable[[], RankedRows], groups: np.ndarray
) -> list[dict[str, float | None]]:
    """The validation metric of each group's users under single modules, in two rankings of all users.

    Parameters
    ----------
    model
        A PerPEFT model whose users are grouped.
    ranked
        Ranks the users by the model as it is.
    groups
        Group of every user id, ``[n_users]``.

    Returns
    -------
    list of dict
        Of each group ``own``, under its own module alone, and ``others``, each of its users under the module of another
        group, these in turns; None of a group without such users.
    """
    found = {}
    for name, modules in (("own", groups), ("others", in_turns(groups, config["num_groups"]))):
        with _each_by(model, modules):
            found[name] = metric_by_group(config, ranked(), groups)
    return [dict(zip(found, scores, strict=True)) for scores in zip(*found.values(), strict=True)]


def in_turns(groups: np.ndarray, num_groups: int) -> np.ndarray:
    """For every user a group that is not theirs: the others one after the other, user by user, ``[n_users]``.

    Those below 0, who are in no group, stay.
    """
    others = groups.copy()
    for group in range(num_groups):
        users = np.flatnonzero(groups == group)
        others[users] = (group + 1 + np.arange(len(users)) % (num_groups - 1)) % num_groups
    return others


@contextmanager
def _each_by(model, groups: np.ndarray) -> Iterator[None]:
    """For a while, let each user's scores come from one module alone, that of ``groups [n_users]``."""
    kept = model.user_groups.clone()
    softness = getattr(model, "group_softness", None)
    kept_softness = None if softness is None else softness.clone()
    try:
        model.user_groups.copy_(torch.from_numpy(groups))
        if softness is not None:
            softness.zero_()
        yield
    finally:
        model.user_groups.copy_(kept)
        if softness is not None:
            softness.copy_(kept_softness)


def metric_by_group(config, rows: RankedRows, groups: np.ndarray) -> list[float | None]:
    """The validation metric of the users of each group among ``rows``; None of a group without any."""
    metric = config["valid_metric"].lower()
    of_rows = groups[rows.users]
    return [(rows.metrics(config, of_rows == group) or {}).get(metric) for group in range(config["num_groups"])]
