"""Users in groups that go by the same likeness of items."""

from logging import getLogger

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.data.item_lists import last_items
from recbole_perpeft.grouping.clustering import COMPONENTS, coherence, kmeans_groups, whitened
from recbole_perpeft.grouping.group_rule import GroupRule
from recbole_perpeft.likeness.maps import sums_of_losses
from recbole_perpeft.likeness.mixture import Mixture, drawn_items
from recbole_perpeft.likeness.purchases import Purchases
from recbole_perpeft.likeness.softness import SHARPER, likeliest_softness
from recbole_perpeft.utils.cores import single_threaded

_COMPONENTS = 64
LENGTH = 50  # purchases of a user that are looked at, the last
PURCHASES = 2**14  # of users who are drawn, by which groups are found
_USERS = 1024  # whose groups are found at a time


class LikenessGroups(GroupRule):
    """Each group has a map of the content under which its users' purchases are alike (``likeness/mixture.py``).

    Maps and groups are found together, in the stage-1 model's item features. A user belongs to the group whose map
    predicts their purchases best.
    """

    of_items = "table"

    def fit(self, model: nn.Module, sequences: dict[int, np.ndarray]) -> np.ndarray:
        """As :meth:`GroupRule.fit`."""
        white = whitened(model.item_tower.content_features(0), _COMPONENTS)  # [n_items, components]
        table = F.normalize(torch.from_numpy(white).float().to(model.device))
        differs = table.any(dim=1).cpu().numpy()  # [n_items] from the mean: as `known`
        histories = last_items((items[differs[items]] for items in sequences.values()), LENGTH)  # [n, length]
        generator = torch.Generator().manual_seed(self.seed)
        some = histories[_drawn_users(histories, generator)]
        purchases = Purchases.of(some.to(model.device))
        softness = 1.0, 1.0
        if len(purchases):
            temperature, decay = likeliest_softness(table, purchases.histories, purchases.targets)
            softness = SHARPER * temperature, decay
        mixture = Mixture(table, purchases, softness, generator)
        if len(purchases):
            alike_in = coherence(white[:, :COMPONENTS], [items[items > 0] for items in some.numpy()])
            with single_threaded():  # steps so small that threads would wait for one another most of the time
                found = mixture.grow(self.num_groups, lambda rows: kmeans_groups(alike_in[rows], 2, self.seed)[0])
            getLogger().info(likeness_report(*found, mixture.shares.shape[1]))
        matrices = torch.stack([maps.matrices for maps in mixture.halves])  # [2, groups, components, components]
        self._keep(table=table, matrices=matrices, softness=softness)
        self.to(model.device)
        table, histories = _without_zeros(table, histories.to(model.device))
        groups = torch.cat([self._groups_of(part, table) for part in histories.split(_USERS)])
        largest = groups[groups >= 0].bincount(minlength=1).argmax()  # theirs, as of users who come later
        return groups.where(groups >= 0, largest).cpu().numpy()

    def assign(self, model: nn.Module, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """As :meth:`GroupRule.assign`."""
        last = last_items([items[items > 0].numpy() for items in histories.cpu()], LENGTH)
        table, rows = _without_zeros(self.table, last.to(histories.device))
        return self._groups_of(rows, table)

    def _groups_of(self, histories: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Groups ``[n]`` of users who bought ``histories [n, length]``: by the mean of what both halves taught.

        Of less than two purchases nothing is there to predict: -1.
        """
        purchases, items = Purchases.of(histories), drawn_items(table, torch.Generator().manual_seed(self.seed))
        softness = tuple(self.softness.tolist())
        sums = sum(sums_of_losses(half, purchases, table, items, softness) for half in self.matrices) / 2
        return sums.argmin(dim=1).masked_fill((histories > 0).sum(dim=1) < 2, -1)


def _without_zeros(table: torch.Tensor, histories: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``table`` without rows of zeros, but that of padding, and ``histories``, which name none of these, in its rows.

    Items that came after the groups would else change among which purchases are predicted, and so users' groups.
    """
    kept = table.any(dim=1)
    kept[0] = True
    if kept.all():
        return table, histories
    return table[kept], (kept.cumsum(dim=0) - 1)[histories]


def _drawn_users(histories: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rows of users, sorted, of whose purchases there are not more than :data:`PURCHASES`."""
    order = torch.randperm(len(histories), generator=generator)
    numbers = (histories[order] > 0).sum(dim=1).cumsum(dim=0)
    return order[: max(1, int((numbers <= PURCHASES).sum()))].sort().values


def likeness_report(alone: float, together: float, num_groups: int) -> str:
    """What groups' maps tell of purchases beyond one map for all, and what to expect of the groups by it."""
    said = (
        f"Likeness: the loss of a purchase is {alone:.3f} with one map for all, {together:.3f} with one for each group"
    )
    if num_groups > 1 and together >= alone:
        said += ". By this, users differ little in what they compare items by: do not expect much of num_groups above 1"
    return said
