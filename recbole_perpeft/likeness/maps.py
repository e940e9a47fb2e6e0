"""Maps of content that predict purchases: what items are alike in for some users and not for others."""

import torch
from torch.nn import functional as F

from recbole_perpeft.likeness.purchases import Purchases
from recbole_perpeft.likeness.similarity import recency
from recbole_perpeft.likeness.softness import loss_among

_LEARNING_RATE = 0.005
_BATCH = 256  # purchases of a step
_CHUNK = 512  # that are judged at a time: more leave the caches


class Candidates:
    """Some purchases, and the items among which they are to be predicted.

    Parameters
    ----------
    purchases
        The ``n`` purchases.
    table
        Unit vectors of all items, ``[n_items, d]``; row 0 is zeros.
    items
        Among which, besides the purchase itself: ids ``[m]``, all different; each stands for as many others.
    softness
        Temperature and decay, as of :func:`~recbole_perpeft.likeness.softness.likeliest_softness`.
    """

    def __init__(self, purchases: Purchases, table: torch.Tensor, items: torch.Tensor, softness: tuple[float, float]):
        self._temperature, decay = softness
        self._n_items = len(table) - 1
        histories, targets = purchases.histories, purchases.targets
        needed, places = torch.cat([histories.flatten(), targets, items]).unique(return_inverse=True)
        before, self._targets, self._items = places.split([histories.numel(), len(targets), len(items)])
        self._before, self._weights = before.view_as(histories), recency(histories, decay)
        self._vectors = table[needed]  # [needed, d]
        column = places.new_full((len(table),), len(items))
        column[items] = torch.arange(len(items), device=items.device)
        known = column[torch.cat([histories, targets[:, None]], dim=1)]  # [n, length + 1]
        out = torch.zeros(len(targets), len(items) + 1, dtype=torch.bool, device=table.device)
        self._out = out.scatter_(1, known, True)[:, :-1]  # [n, m]

    def losses(self, matrix: torch.Tensor) -> torch.Tensor:
        """Cross entropy of the purchases by how like they are, under a map, to what was bought before, ``[n]``.

        Parameters
        ----------
        matrix
            The map, ``[d, d]``.
        """
        vectors = F.normalize(self._vectors @ matrix)  # [needed, d]
        queries = F.embedding_bag(self._before, vectors, mode="sum", per_sample_weights=self._weights)
        queries = F.normalize(queries) / self._temperature  # [n, d]
        own = (queries * vectors[self._targets]).sum(dim=1, keepdim=True)  # [n, 1]
        others = queries @ vectors[self._items].T  # [n, m]
        return loss_among(own, others.masked_fill_(self._out, -torch.inf), self._n_items)


class Maps:
    """Linear maps of items' vectors, each learnt by purchases.

    Parameters
    ----------
    matrices
        What row vectors are multiplied with at the start, ``[num, d, d]``.
    """

    def __init__(self, matrices: torch.Tensor):
        self._matrices = [matrix.clone().requires_grad_() for matrix in matrices.detach()]
        self._optimizers = [torch.optim.Adam([matrix], lr=_LEARNING_RATE) for matrix in self._matrices]

    @property
    def matrices(self) -> torch.Tensor:
        """As they are now, without gradient, ``[num, d, d]``."""
        return torch.stack(self._matrices).detach()

    def learn(
        self, place: int, purchases: Purchases, table: torch.Tensor, items: torch.Tensor, softness: tuple[float, float]
    ) -> None:
        """Steps of the map at ``place`` on ``purchases``, each seen once, in their order; as :class:`Candidates`."""
        for first in range(0, len(purchases), _BATCH):  # of no purchase no step: momentum alone would move the map
            rows = slice(first, first + _BATCH)
            loss = Candidates(purchases[rows], table, items, softness).losses(self._matrices[place]).mean()
            self._optimizers[place].zero_grad()
            loss.backward()
            self._optimizers[place].step()


@torch.no_grad()
def sums_of_losses(
    matrices: torch.Tensor,
    purchases: Purchases,
    table: torch.Tensor,
    items: torch.Tensor,
    softness: tuple[float, float],
) -> torch.Tensor:
    """Sum of the losses of each user's purchases under each of some maps, ``[n_users, num]``.

    Parameters
    ----------
    matrices
        The maps, ``[num, d, d]``.
    purchases, table, items, softness
        As of :class:`Candidates`.
    """
    found = [table.new_zeros(0, len(matrices))]
    for first in range(0, len(purchases), _CHUNK):
        part = Candidates(purchases[first : first + _CHUNK], table, items, softness)
        found.append(torch.stack([part.losses(matrix) for matrix in matrices], dim=1))
    return purchases.sums(torch.cat(found))
