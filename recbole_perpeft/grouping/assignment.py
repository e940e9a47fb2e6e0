"""Which group each user who trains belongs to, from the model and the training purchases alone."""

import numpy as np
import torch

from recbole_perpeft.grouping.clustering import regroup_users
from recbole_perpeft.utils import processes


def stage_2_groups(model, train_data) -> tuple[np.ndarray, np.ndarray]:
    """Group the users under the global model, by the model's :class:`~recbole_perpeft.grouping.methods.GroupRule`.

    Parameters
    ----------
    model
        A PerPEFT model at the end of stage 1.
    train_data
        Its :class:`~recbole_perpeft.data.dataloader.UserBatchLoader`.

    Returns
    -------
    tuple
        User ids ``[n]`` and their groups ``[n]``.
    """
    sequences = train_data.histories
    model.eval()
    with model.item_tower.catalogue(0):  # it is kept: all groups start from it
        groups = model.group_rule.fit(model, sequences)
    return np.fromiter(sequences, dtype=np.int64), groups


def best_groups(model, train_data) -> tuple[np.ndarray, np.ndarray]:
    """The group whose module predicts each user's training purchases best: user ids ``[n]`` and groups ``[n]``."""
    users, sums, numbers = losses_of_users(model, train_data)
    return users, regroup_users(sums / numbers[:, None])


def losses_of_users(model, train_data, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How well each group's module predicts the training purchases of each user.

    Of several processes, which all call it, each asks some of the modules.

    Parameters
    ----------
    rows
        Of the loader's purchases those that are looked at, of whole users; None: all.

    Returns
    -------
    tuple
        User ids ``[n]``, the sums of their purchases' losses ``[n, num_groups]``, and of how many purchases ``[n]``.
    """
    prefixes = train_data.purchases if rows is None else train_data.purchases[torch.from_numpy(rows)]
    users, row_of = np.unique(prefixes[train_data._dataset.uid_field].numpy(), return_inverse=True)
    model.encode_catalogues()
    own = [group for group in range(model.num_groups) if processes.is_own(group)]
    losses = processes.total(model.losses_by_group(prefixes, groups=own)).numpy()  # [prefixes, num_groups]
    sums = np.zeros((len(users), losses.shape[1]))
    np.add.at(sums, row_of, losses)
    return users, sums, np.bincount(row_of)
