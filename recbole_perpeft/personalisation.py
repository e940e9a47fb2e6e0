"""Which group each user belongs to, from the model and the training purchases alone."""

import numpy as np

from recbole_perpeft.grouping import Grouping, coherence, group_users, regroup_users


def stage_2_groups(model, train_data, config) -> tuple[np.ndarray, Grouping]:
    """Group the users under the global model.

    Parameters
    ----------
    model
        A PerPEFT model at the end of stage 1.
    train_data
        Its :class:`~recbole_perpeft.sampling.UserBatchLoader`.
    config
        Reads ``grouping``, ``num_groups`` and ``seed``.

    Returns
    -------
    tuple
        User ids ``[n]``, and their groups with the centroids of their sequence representations.
    """
    sequences = train_data.histories
    points = representations = model.user_representations(sequences)
    if config["grouping"] == "coherence":
        features = model.item_tower.content_features(0).cpu().numpy()
        points = coherence(features, list(sequences.values()))
    groups = group_users(points, config["grouping"], config["num_groups"], config["seed"]).groups
    # centroids are for users who come later, of whom there is a representation
    return np.fromiter(sequences, dtype=np.int64), Grouping.of(groups, representations, config["num_groups"])


def best_groups(model, train_data) -> tuple[np.ndarray, np.ndarray]:
    """The group whose module predicts each user's training purchases best: user ids ``[n]`` and groups ``[n]``."""
    prefixes = train_data._prefixes
    users, row_of = np.unique(prefixes[train_data._dataset.uid_field].numpy(), return_inverse=True)
    losses = model.losses_by_group(prefixes).numpy()  # [prefixes, num_groups]
    sums = np.zeros((len(users), losses.shape[1]))
    np.add.at(sums, row_of, losses)
    return users, regroup_users(sums / np.bincount(row_of)[:, None])
