"""The best items of a block of users."""

from collections.abc import Iterator, Sequence

import torch

from recbole_perpeft.evaluation.top_items import FOLD, top_items
from recbole_perpeft.serving.products import Product

_TILE = 64 * FOLD  # items whose scores for a block of users stay in a core's cache

Pairs = tuple[torch.Tensor, torch.Tensor]


class Ranking:
    """Ranks the items for users, a block at a time.

    Parameters
    ----------
    n_items
        Padding included.
    users
        In a block, at most.
    shut
        Items that no list may hold, ascending, ``[n]``; padding is among them.
    """

    def __init__(self, n_items: int, users: int, shut: torch.Tensor):
        self._n_items, self._users, self.shut = n_items, users, shut
        # kept from block to block: to get as much memory anew takes as long as to fill it
        self._scores: torch.Tensor | None = None  # [users, width]
        self._maxima: torch.Tensor | None = None  # [users, width / 64]

    def of_scores(self, scores: torch.Tensor, bought: Pairs | None, k: int) -> Pairs:
        """The k best items of each user by ``scores [users, n_items]``, best first, and their scores, ``[users, k]``.

        Parameters
        ----------
        bought
            Row and item ``[n]`` of what each user's list may not hold.
        """
        scores[:, self.shut] = -torch.inf
        if bought is not None:
            scores[bought] = -torch.inf
        found = top_items(scores, k)
        return found, scores.gather(1, found)

    @torch.no_grad()
    def of_products(self, products: Sequence[Product], users: int, bought: Pairs | None, k: int) -> Pairs:
        """As :meth:`of_scores`, of scores that are sums of ``products``.

        They are computed some items at a time, whose maxima are taken while they are at hand.
        """
        scores, maxima = self._memory(users, products[0].items[0])
        shut, pairs = _Ascending(self.shut), None if bought is None else _by_item(bought)
        for low in range(0, self._n_items, _TILE):
            high = min(low + _TILE, self._n_items)
            tile = scores[:, low:high]
            _add_up(products, low, high, tile)
            for (items,) in shut.between(low, high):
                tile[:, items - low] = -torch.inf
            for items, rows in () if pairs is None else pairs.between(low, high):
                tile[rows, items - low] = -torch.inf
            folds = scores[:, low : low + _TILE].unflatten(1, (-1, FOLD))  # [users, folds, 64]
            maxima[:, low // FOLD : low // FOLD + folds.shape[1]] = folds.amax(dim=2)
        found = top_items(scores, k, maxima)
        return found, scores.gather(1, found)

    def _memory(self, users: int, like: torch.Tensor) -> Pairs:
        if self._scores is None:
            width = -(-self._n_items // FOLD) * FOLD
            self._scores = like.new_full((self._users, width), -torch.inf)
            self._maxima = like.new_empty(self._users, width // FOLD)
        return self._scores[:users], self._maxima[:users]


def _add_up(products: Sequence[Product], low: int, high: int, scores: torch.Tensor) -> None:
    """Put the scores of the items from ``low`` to below ``high`` into ``scores [users, high - low]``."""
    pairs = [
        (product.rows, queries, items[low:high].T)  # [m], [m, d], [d, high - low]
        for product in products
        for queries, items in zip(product.queries, product.items, strict=True)
    ]
    rows, queries, items = pairs[0]
    if len(rows) == len(scores):
        torch.mm(queries, items, out=scores)
        del pairs[0]
    else:
        scores.zero_()
    for rows, queries, items in pairs:
        if len(rows) == len(scores):
            torch.addmm(scores, queries, items, out=scores)
        else:
            scores.index_add_(0, rows, queries @ items)


class _Ascending:
    """Tensors ``[n]`` of which the first ascends."""

    def __init__(self, *columns: torch.Tensor):
        self._columns, self._keys = columns, columns[0].cpu().numpy()

    def between(self, low: int, high: int) -> Iterator[tuple[torch.Tensor, ...]]:
        """All where the first is from ``low`` to below ``high``; nothing, if it is nowhere."""
        first, last = self._keys.searchsorted([low, high])
        if first < last:
            yield tuple(column[first:last] for column in self._columns)


def _by_item(pairs: Pairs) -> _Ascending:
    rows, items = pairs
    order = items.argsort()
    return _Ascending(items[order], rows[order])
