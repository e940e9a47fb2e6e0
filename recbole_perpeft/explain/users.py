"""Users: a map of them, the most typical of each group, and what each module would recommend to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from recbole_perpeft.evaluation.top_items import top_items
from recbole_perpeft.explain.subject import Subject


@dataclass(frozen=True)
class UserMap:
    """Users as points.

    Attributes
    ----------
    users : numpy.ndarray
        User ids of those who trained, ``[n]``.
    groups : numpy.ndarray
        Theirs, ``[n]``.
    representations : numpy.ndarray
        ``[n, d]``.
    """

    users: np.ndarray
    groups: np.ndarray
    representations: np.ndarray

    def centres(self) -> dict[int, np.ndarray]:
        """The mean representation of each group that has users, ``[d]``."""
        return {int(g): self.representations[self.groups == g].mean(axis=0) for g in np.unique(self.groups)}

    def typical(self, among: np.ndarray, most: int) -> list[int]:
        """The user nearest to their group's centre, of each of the ``most`` largest groups; ``among`` these ids."""
        sizes, allowed, found = np.bincount(self.groups), np.isin(self.users, among), []
        centres = self.centres()
        for group in np.argsort(-sizes, kind="stable")[:most].tolist():
            rows = np.flatnonzero((self.groups == group) & allowed)
            if len(rows):
                distances = np.linalg.norm(self.representations[rows] - centres[group], axis=1)
                found.append(int(self.users[rows[distances.argmin()]]))
        return found

    def farthest(self, group: int) -> int | None:
        """The group whose centre is farthest from that of ``group``; None if there is no other."""
        centres = self.centres()
        others = {g: float(np.linalg.norm(centre - centres[group])) for g, centre in centres.items() if g != group}
        return max(others, key=others.get) if others and group in centres else None


def user_map(subject: Subject, groups: np.ndarray) -> UserMap:
    """Users who trained, by the model's sequence representation of them under module 0.

    Parameters
    ----------
    groups
        Group of every user id, ``[n_users]``.
    """
    representations = subject.model.user_representations(subject.sequences)
    users = np.fromiter(subject.sequences, dtype=np.int64)
    kept = groups[users] >= 0
    return UserMap(users[kept], groups[users[kept]], representations[kept])


def principal_components(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two directions in which ``rows [n, d]`` vary most: coordinates ``[n, 2]``, and their shares of the variance.

    A direction's sign is that of its largest entry, so that the map is the same each time.
    """
    centred = rows - rows.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(rows))  # ascending
    best = directions[:, ::-1][:, :2]
    best = best * np.sign(best[np.abs(best).argmax(axis=0), range(best.shape[1])])
    return centred @ best, variances[::-1][:2] / max(variances.sum(), 1e-12)


@dataclass
class UserLists:
    """What is recommended to a user as in the test, by several models.

    Attributes
    ----------
    user : int
        Their id.
    group : int or None
        Theirs.
    history : list of int
        What they bought before, oldest first.
    held_out : list of int
        What they bought in the test.
    lists : dict
        Best items by the name of what recommends them.
    ranks : dict
        By the same names, the rank of the first of :attr:`held_out`, from 1; None without any.
    """

    user: int
    group: int | None
    history: list[int]
    held_out: list[int]
    lists: dict[str, list[int]] = field(default_factory=dict)
    ranks: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, subject: Subject, user: int, group: int | None) -> "UserLists":
        """Without lists yet."""
        return cls(user, group, subject.history(user).tolist(), subject.held_out(user))

    def add(self, name: str, scores: torch.Tensor, k: int) -> None:
        """Add the ``k`` best by ``scores [n_items]``."""
        self.lists[name] = [item for item in top_items(scores[None], min(k, len(scores) - 1))[0].tolist() if item]
        self.ranks[name] = rank_of(scores, self.held_out[0]) if self.held_out else None


def rank_of(scores: torch.Tensor, item: int) -> int:
    """Place of an item by ``scores [n_items]``, from 1, before all that score the same."""
    return int((scores > scores[item]).sum()) + 1


def chosen_users(subject: Subject, found: UserMap | None, names: Sequence[str], most: int) -> list[int]:
    """The users that are asked for, else the most typical of the largest groups, else the first of the data.

    Raises
    ------
    RequestError
        If one is unknown.
    """
    if names:
        return [subject.user_called(name) for name in names]
    tested = np.unique(subject.parts[-1].inter_feat[subject.parts[0].uid_field].numpy())
    if found is None:
        return tested[:most].tolist()
    return found.typical(tested, most)
