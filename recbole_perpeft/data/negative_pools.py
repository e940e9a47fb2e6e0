"""Where negatives come from: the whole catalogue, or what a group's users bought in training."""

from dataclasses import dataclass, field

import numpy as np

from recbole_perpeft.utils.errors import DataError


@dataclass(frozen=True)
class NegativePools:
    """Where negatives come from: for each group the items that its users bought in training.

    Parameters
    ----------
    pools
        One sorted array of item ids per group.
    histories
        User id to that user's training purchases.
    catalogue
        All items.
    too_small
        Groups one of whose users bought all that the group did, with the number of these items. Nothing of it would be
        a negative for that user, so the pool of such a group is the catalogue.
    """

    pools: list[np.ndarray]
    histories: dict[int, np.ndarray]
    catalogue: np.ndarray
    too_small: dict[int, int] = field(default_factory=dict)

    @classmethod
    def whole_catalogue(
        cls, n_items: int, num_groups: int, histories: dict[int, np.ndarray], left_out: np.ndarray
    ) -> "NegativePools":
        """All items but those ``left_out`` for every group (stage 1, and without group negatives)."""
        catalogue = np.setdiff1d(np.arange(1, n_items), left_out)
        return cls([catalogue] * num_groups, histories, catalogue)

    def of_groups(self, groups: np.ndarray) -> "NegativePools":
        """Each group's own purchases; all items, for a group one of whose users bought all that it did.

        Parameters
        ----------
        groups
            Group of every user id, ``[n_users]``.
        """
        bought = [[] for _ in self.pools]
        for user, items in self.histories.items():
            bought[groups[user]].append(items)
        pools = [np.unique(np.concatenate(b)) if b else np.empty(0, np.int64) for b in bought]
        users = {int(groups[user]) for user, items in self.histories.items() if _all_of(pools[groups[user]], items)}
        too_small = {group: len(pools[group]) for group in sorted(users)}
        for group in too_small:
            pools[group] = self.catalogue
        return NegativePools(pools, self.histories, self.catalogue, too_small)

    def check(self, names: np.ndarray) -> None:
        """Refuse users who bought the whole catalogue: whatever the group, nothing can be drawn for them.

        Parameters
        ----------
        names
            Of every user id, ``[n_users]``.

        Raises
        ------
        DataError
            Names the first of them and the cure.
        """
        users = [user for user, items in self.histories.items() if _all_of(self.catalogue, items)]
        if users:
            others = f" and {len(users) - 1} more" if len(users) > 1 else ""
            raise DataError(
                f"User {names[users[0]]}{others} bought all {len(self.catalogue)} items in training: no negative is "
                "left to draw. Set loss_type: CE, where the model has it, which draws none for each purchase, or leave "
                "such users out (an upper limit in user_inter_num_interval)."
            )

    def draw(self, users: np.ndarray, group: int, rng: np.random.Generator) -> np.ndarray:
        """One negative for each of ``users`` (with repeats), uniform over the pool without the user's own purchases.

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

    def shared_probability(self, number: int, group: int, n_items: int) -> np.ndarray:
        """How likely each catalogue id is one of ``number`` shared negatives, ``[n_items]``."""
        pool, probability = self.pools[group], np.zeros(n_items)
        probability[pool] = min(number, len(pool)) / max(len(pool), 1)
        return probability

    def outside(self, group: int, n_items: int) -> np.ndarray:
        """Which catalogue ids are not in the group's pool, bool ``[n_items]``."""
        mask = np.ones(n_items, dtype=bool)
        mask[self.pools[group]] = False
        return mask

    def draw_shared(self, number: int, group: int, rng: np.random.Generator) -> np.ndarray:
        """``number`` different items of the pool, all of it if it has fewer."""
        pool = self.pools[group]
        return rng.choice(pool, size=min(number, len(pool)), replace=False)


def _all_of(pool: np.ndarray, items: np.ndarray) -> bool:
    """Whether ``items`` hold all of ``pool``; a longer pool holds something else."""
    return len(pool) <= len(items) and bool(np.isin(pool, items).all())
