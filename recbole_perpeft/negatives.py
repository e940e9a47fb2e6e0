"""Where negatives come from: the whole catalogue, or what a group's users bought in training."""

from dataclasses import dataclass

import numpy as np

from recbole_perpeft.errors import DataError


@dataclass(frozen=True)
class NegativePools:
    """Where negatives come from: for each group the items that its users bought in training.

    Parameters
    ----------
    pools
        One sorted array of item ids per group.
    histories
        User id to his training purchases.
    """

    pools: list[np.ndarray]
    histories: dict[int, np.ndarray]

    @classmethod
    def whole_catalogue(
        cls, n_items: int, num_groups: int, histories: dict[int, np.ndarray], left_out: np.ndarray
    ) -> "NegativePools":
        """All items but those ``left_out`` for every group (stage 1, and without group negatives)."""
        return cls([np.setdiff1d(np.arange(1, n_items), left_out)] * num_groups, histories)

    @classmethod
    def of_groups(cls, groups: np.ndarray, num_groups: int, histories: dict[int, np.ndarray]) -> "NegativePools":
        """Each group's own purchases. ``groups``: the group of every user id, ``[n_users]``."""
        bought = [[] for _ in range(num_groups)]
        for user, items in histories.items():
            bought[groups[user]].append(items)
        return cls([np.unique(np.concatenate(b)) if b else np.empty(0, np.int64) for b in bought], histories)

    def check(self, groups: np.ndarray) -> None:
        """Refuse pools in which some user finds no negative.

        Raises
        ------
        DataError
            Names the group, its size and the cure.
        """
        for user, items in self.histories.items():
            group = int(groups[user])
            pool = self.pools[group]
            if len(pool) <= len(items) and np.isin(pool, items).all():  # a longer pool holds something else
                users = sum(int(groups[other]) == group for other in self.histories)
                raise DataError(
                    f"Group {group} ({users} users) bought {len(pool)} items, and one of its users bought all of them: "
                    "no negative is left for him. Lower num_groups, or set group_negatives: False."
                )

    def draw(self, users: np.ndarray, group: int, rng: np.random.Generator) -> np.ndarray:
        """One negative for each of ``users`` (with repeats), uniform over the pool without his own purchases.

        The check is by item: the authors' code checks an index, so a user's purchases can come back as negatives.
        """
        pool = self.pools[group]
        drawn = rng.choice(pool, size=len(users))
        for user in np.unique(users):
            rows = np.flatnonzero(users == user)
            clash = rows[np.isin(drawn[rows], self.histories[user])]
            if len(clash):
                drawn[clash] = rng.choice(np.setdiff1d(pool, self.histories[user]), size=len(clash))
        return drawn

    def outside(self, group: int, n_items: int) -> np.ndarray:
        """Which catalogue ids are not in the group's pool, bool ``[n_items]``."""
        mask = np.ones(n_items, dtype=bool)
        mask[self.pools[group]] = False
        return mask

    def draw_shared(self, number: int, group: int, rng: np.random.Generator) -> np.ndarray:
        """``number`` different items of the group's pool (all of it, if it has fewer)."""
        pool = self.pools[group]
        return rng.choice(pool, size=min(number, len(pool)), replace=False)
