"""Data sets with users and items of whom no purchase is known."""

from collections.abc import Mapping, Sequence

import numpy as np
from recbole.data.dataset import Dataset


def with_more_ids(dataset: Dataset, more: Mapping[str, Sequence[str]]) -> Dataset:
    """A copy of ``dataset``, of the same purchases, with more ids at the end of the fields that ``more`` names."""
    larger = dataset.copy(dataset.inter_feat)
    tokens = {field: np.append(dataset.field2id_token[field], list(ids)) for field, ids in more.items()}
    larger.field2id_token = dataset.field2id_token | tokens
    larger.field2token_id = dataset.field2token_id | {
        field: {token: number for number, token in enumerate(known)} for field, known in tokens.items()
    }
    return larger
