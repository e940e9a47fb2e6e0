"""Users in groups that go by the same likeness of items: a mixture of maps, found by expectation and maximisation.

Each group has a map of the items' content (:mod:`~recbole_perpeft.likeness.maps`), under which what its users buy is
like what they bought before. All users are in one group at first. The largest group is split, again and again, by which
components of content its users' purchases are alike in, and after each split users and maps follow each other for some
passes. Half of the users teach the maps that the other half is judged by, and the other way round: under maps that they
taught, users would stay where they are.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from recbole_perpeft.likeness.maps import Maps, sums_of_losses
from recbole_perpeft.likeness.purchases import Purchases
from recbole_perpeft.utils.cores import at_once

_ALONE = 10  # passes of one map for all, at most
_OF_THE_SPLIT = 6  # passes of the two halves of a split by themselves
_OF_ALL = 3  # passes of all groups after it
_AT_THE_END = 4
ITEMS = 2**10  # drawn for each pass, among which purchases are predicted
_STEP = 3  # of a prediction's time, with its way back

Split = Callable[[np.ndarray], np.ndarray]


class Mixture:
    """Maps of groups and what each group has of each user.

    Parameters
    ----------
    table
        Unit vectors of all items, ``[n_items, d]``; row 0 is zeros.
    purchases
        What the users bought, on the table's device.
    softness
        Temperature and decay of likeness.
    generator
        Decides what is left to chance; of the CPU.

    Attributes
    ----------
    shares : torch.FloatTensor
        ``[n_users, groups]``, rows of sum 1.
    halves : list of Maps
        Those that the first half of the users taught, and those of the second.
    """

    def __init__(
        self,
        table: torch.Tensor,
        purchases: Purchases,
        softness: tuple[float, float],
        generator: torch.Generator,
    ):
        self._table, self._purchases, self._softness, self._generator = table, purchases, softness, generator
        self._second = torch.rand(purchases.n_users, generator=generator).to(table.device) < 0.5  # [n_users]
        self.halves = [Maps(torch.eye(table.shape[1]).to(table)[None]) for _ in range(2)]
        self.shares = table.new_ones(purchases.n_users, 1)

    def grow(self, num_groups: int, split: Split) -> tuple[float, float]:
        """Split groups until there are ``num_groups``, or none whose users differ.

        Parameters
        ----------
        split
            Takes rows of users ``[n]`` and gives in which of two parts each is, ``[n]``; all in one if they are alike.

        Returns
        -------
        tuple
            The loss of a purchase, in the mean, with one map for all and with a map for each group.
        """
        alone = self._learn_alone()
        while self.shares.shape[1] < num_groups and self._split_one(split):
            self.pass_over(_OF_ALL)
        return alone, self.pass_over(_AT_THE_END)

    def _learn_alone(self) -> float:
        """Let the one map for all learn for as long as it gets better; gives the mean loss of a purchase."""
        items = drawn_items(self._table, self._generator)
        untaught = sums_of_losses(self.halves[0].matrices, self._purchases, self._table, items, self._softness)
        least = float(untaught.sum()) / len(self._purchases)
        for _ in range(_ALONE):
            loss = self.pass_over(1)
            if loss > least:
                break
            least = loss
        return least

    def _split_one(self, split: Split) -> bool:
        groups = self.shares.argmax(dim=1)
        for largest in self.shares.sum(dim=0).argsort(descending=True, stable=True).tolist():
            members = torch.nonzero(groups == largest).squeeze(1)
            part = torch.from_numpy(split(members.cpu().numpy())).to(members.device) if len(members) else members
            if part.any():
                break
        else:
            return False
        before = [maps.matrices for maps in self.halves]
        pair = [Maps(matrices[[largest, largest]]) for matrices in before]
        part = self._of_two(pair, members, part)
        rest = [group for group in range(self.shares.shape[1]) if group != largest]
        self.halves = [
            Maps(torch.cat([matrices[rest], two.matrices])) for matrices, two in zip(before, pair, strict=True)
        ]
        of_two = self.shares[:, [largest, largest]] / 2  # users elsewhere have as much of either
        of_two[members] = self.shares[members, largest, None] * torch.eye(2).to(self.shares)[part]
        self.shares = torch.cat([self.shares[:, rest], of_two], dim=1)
        return True

    def _of_two(self, pair: list[Maps], members: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        """Which of two parts ``members [n]`` are in, ``[n]``, after passes of these two by themselves."""
        shares = self.shares.new_zeros(len(self.shares), 2)
        shares[members] = torch.eye(2).to(shares)[part]
        rows = torch.isin(self._purchases.row_of, members)
        for _ in range(_OF_THE_SPLIT):
            sums = self._teach(pair, shares, self._purchases[rows])
            shares[members] = torch.softmax(-sums[members], dim=1)
        return shares[members].argmax(dim=1)

    def pass_over(self, times: int) -> float:
        """Let maps learn and users follow, so many times.

        Gives the mean loss of a purchase of the last time, of users who did not teach.
        """
        for _ in range(times):
            # whatever the groups' sizes: else, of users who differ little, the largest group would take all
            likelihoods = -self._teach(self.halves, self.shares, self._purchases)  # [n_users, groups], logarithms
            self.shares = torch.softmax(likelihoods, dim=1)
        of_users = likelihoods.logsumexp(dim=1) - math.log(likelihoods.shape[1])
        return -float(of_users.sum()) / len(self._purchases)

    def _teach(self, halves: list[Maps], shares: torch.Tensor, purchases: Purchases) -> torch.Tensor:
        """One pass over ``purchases``, each for a group that is drawn from its user's ``shares``.

        Gives the sums of losses under the maps that the other half of the users taught, ``[n_users, groups]``.
        """
        items = drawn_items(self._table, self._generator)
        second = self._second[purchases.row_of]
        lots = [self._lots(purchases[second == bool(half)], shares) for half in range(len(halves))]

        def taught(half: int) -> torch.Tensor:
            for group, own in enumerate(lots[half]):
                halves[half].learn(group, own, self._table, items, self._softness)
            others = purchases[second != bool(half)]
            return sums_of_losses(halves[half].matrices, others, self._table, items, self._softness)

        runs = [partial(taught, half) for half in range(len(halves))]  # neither reads what the other learns
        return sum(at_once(runs))

    def _lots(self, purchases: Purchases, shares: torch.Tensor) -> list[Purchases]:
        """Those of ``purchases`` that teach each group, in the order in which they do."""
        order = torch.randperm(len(purchases), generator=self._generator).to(self._table.device)
        chances = torch.rand(len(purchases), 1, generator=self._generator).to(self._table.device)
        own = purchases[order]
        picked = (shares[own.row_of].cumsum(dim=1) < chances).sum(dim=1).clamp(max=shares.shape[1] - 1)
        return [own[picked == group] for group in range(shares.shape[1])]


def drawn_items(table: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Ids of some items of a ``table [n_items, d]``, or of all of few, ``[m]``."""
    return 1 + torch.randperm(len(table) - 1, generator=generator)[:ITEMS].to(table.device)


def predictions(num_groups: int) -> float:
    """How often each purchase is predicted, about, while groups are found."""
    of_all = sum(_OF_ALL * (groups + _STEP) for groups in range(2, num_groups + 1))
    of_splits = sum(_OF_THE_SPLIT * (2 + _STEP) / groups for groups in range(1, num_groups))
    return _ALONE * (1 + _STEP) + of_all + of_splits + _AT_THE_END * (num_groups + _STEP)
