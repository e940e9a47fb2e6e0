"""Which users train together: those of one group."""

from collections.abc import Iterator

import numpy as np


class GroupBatches:
    """Batch sampler: positions of users, every batch of one group, batches of all groups shuffled together.

    Parameters
    ----------
    groups
        Group of each position, ``[n]``.
    users_per_batch
        Users of a batch; a group's last batch of an epoch may be smaller.
    seed
        With the epoch it decides the order; the same seed and epoch give the same batches in any process.
    """

    def __init__(self, groups: np.ndarray, users_per_batch: int, seed: int):
        self.groups, self.users_per_batch = groups, users_per_batch
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return int(sum(-(-size // self.users_per_batch) for size in np.bincount(self.groups)))

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch, 0])
        batches = []
        order = rng.permutation(len(self.groups))
        for group in np.unique(self.groups):
            users = order[self.groups[order] == group]
            batches += [users[at : at + self.users_per_batch] for at in range(0, len(users), self.users_per_batch)]
        for index in rng.permutation(len(batches)):
            yield batches[index].tolist()
