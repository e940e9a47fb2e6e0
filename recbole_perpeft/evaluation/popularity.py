"""What counting purchases would reach: the most bought items, recommended to everybody."""

from collections.abc import Callable

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset


def purchase_counts(dataset) -> np.ndarray:
    """How often each item was bought in training, ``[n_items]``.

    Parameters
    ----------
    dataset
        The training part, of this package or of RecBole.
    """
    if hasattr(dataset, "training_sequences"):
        items = np.concatenate(list(dataset.training_sequences().values()))
    else:
        items = dataset.inter_feat[dataset.iid_field].numpy()
        if isinstance(dataset, SequentialDataset):  # its rows are targets: a user's first purchase is none
            first = dataset.inter_feat[dataset.item_list_length_field] == 1
            items = np.r_[items, dataset.inter_feat[dataset.item_id_list_field][first, 0].numpy()]
    return np.bincount(items, minlength=dataset.item_num)


def popularity_scorer(counts: np.ndarray, item_field: str) -> Callable[[tuple], tuple]:
    """A function that scores a batch of an evaluation loader by popularity.

    It gives what RecBole's trainers make of a batch: ``(interaction, scores [users, n_items], rows of positives,
    positives)``. What the loader masks for the model is masked here, and only drawn candidates are ranked where some
    are drawn.

    Parameters
    ----------
    counts
        Purchases of each item in training, ``[n_items]``.
    item_field
        Name of the item ids in a batch.
    """
    of_items = torch.from_numpy(counts.astype(np.float32))
    of_items[0] = -torch.inf  # padding

    def score(batch: tuple) -> tuple:
        interaction, masked_or_rows, positive_u, positive_i = batch
        if isinstance(masked_or_rows, torch.Tensor):  # a sampled evaluation's row of each candidate
            rows, items = masked_or_rows, interaction[item_field]
            scores = torch.full((int(rows.max()) + 1, len(of_items)), -torch.inf)
            scores[rows, items] = of_items[items]
        else:
            scores = of_items.repeat(len(interaction), 1)
            if masked_or_rows is not None:
                scores[tuple(index.cpu() for index in masked_or_rows)] = -torch.inf
        return interaction, scores, positive_u, positive_i

    return score
