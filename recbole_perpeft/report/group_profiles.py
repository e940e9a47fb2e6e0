"""What groups buy, and whether their own modules serve them better than others' do."""

from collections.abc import Callable

import numpy as np

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
    """The validation metric of each group's users under single modules.

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
        Of each group ``own``, under its own module alone, and ``others``, the mean over all other groups' modules; None
        of a group without such users.
    """
    number = config["num_groups"]
    table = []
    try:
        for module in range(number):
            model.only_group = module
            table.append(metric_by_group(config, ranked(), groups))
    finally:
        model.only_group = None
    found = []
    for group in range(number):
        others = [row[group] for module, row in enumerate(table) if module != group and row[group] is not None]
        found.append({"own": table[group][group], "others": float(np.mean(others)) if others else None})
    return found


def metric_by_group(config, rows: RankedRows, groups: np.ndarray) -> list[float | None]:
    """The validation metric of the users of each group among ``rows``; None of a group without any."""
    metric = config["valid_metric"].lower()
    of_rows = groups[rows.users]
    return [(rows.metrics(config, of_rows == group) or {}).get(metric) for group in range(config["num_groups"])]
