"""The best items of a block of users."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from recbole_perpeft.data.item_lists import LEAST_ROWS, SCORES_OF_A_BLOCK
from recbole_perpeft.evaluation.top_items import FOLD, fixed_order, top_items
from recbole_perpeft.model.purchase_term import Additions
from recbole_perpeft.serving.candidates import BLOCK, Candidates
from recbole_perpeft.serving.products import Product

_TILE = 64 * FOLD  # items whose scores for a block of users stay in a core's cache

Pairs = tuple[torch.Tensor, torch.Tensor]
AdditionsOf = Callable[[torch.Tensor], Additions]  # of some rows


class Ranking:
    """Ranks the items for users, a block at a time.

    Parameters
    ----------
    n_items
        Padding included.
    users
        At a time, at most.
    shut
        Items that no list may hold, ascending, ``[n]``; padding is among them.
    """

    def __init__(self, n_items: int, users: int, shut: torch.Tensor):
        self._n_items, self.shut = n_items, shut
        self._rows = min(users, max(SCORES_OF_A_BLOCK["cuda"] // n_items, LEAST_ROWS))  # of a block
        self._candidates = Candidates(n_items, shut)
        # kept from block to block: to get as much memory anew takes as long as to fill it
        self._order: torch.Tensor | None = None  # [width], of equal scores
        self._scores: torch.Tensor | None = None  # [rows, width]
        self._maxima: torch.Tensor | None = None  # [rows, width / 64]

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
    def of_products(
        self, products: Sequence[Product], users: int, bought: Pairs | None, k: int, added: AdditionsOf | None = None
    ) -> Pairs:
        """As :meth:`of_scores`, of scores that are sums of ``products``, and of what is ``added`` to some of them.

        Parameters
        ----------
        added
            Gives, for users ``[n]``, what is added to their scores: nothing negative.
        """
        quick = self._blocks_with_candidates(products, k)
        if not quick and users <= self._rows:
            everyone = torch.arange(users, device=products[0].rows.device)
            return self._of_all(products, users, bought, k, added and added(everyone))
        scores = products[0].queries[0].new_empty(users, k)
        items = torch.empty_like(scores, dtype=torch.long)
        others = torch.ones(users, dtype=torch.bool, device=scores.device)
        for product, rows in quick:
            (part,), pairs = _of_rows(rows, [product], users, bought)
            found = self._of_candidates(part, pairs, k, added and added(rows))
            if found is not None:
                items[rows], scores[rows] = found
                others[rows] = False
        for rows in others.nonzero().squeeze(1).split(self._rows) if others.any() else ():
            parts, pairs = _of_rows(rows, products, users, bought)
            items[rows], scores[rows] = self._of_all(parts, len(rows), pairs, k, added and added(rows))
        return items, scores

    def _blocks_with_candidates(self, products: Sequence[Product], k: int) -> list[tuple[Product, torch.Tensor]]:
        """Products with some of their users, ``[n]``, for whom it is quicker to look for candidates first."""
        blocks = [(product, rows) for product in products for rows in product.rows.split(BLOCK)]
        blocks = [(product, rows) for product, rows in blocks if self._candidates.are_worth_it(product, len(rows), k)]
        if not blocks or torch.cat([product.rows for product in products]).bincount().max() > 1:  # users have several
            return []
        return blocks

    def _of_candidates(self, product: Product, bought: Pairs | None, k: int, added: Additions | None) -> Pairs | None:
        users, items = len(product.rows), self._candidates.of(product, bought, k)
        if items is None:
            return None
        if added is not None:  # which raises an item that is no candidate without it, and lowers none
            items = torch.cat([items, added.items[~torch.isin(added.items, self.shut)]]).unique()
        of_candidates = tuple(table.index_select(0, items) for table in product.items)
        scores = of_candidates[0].new_empty(users, len(items))
        _add_up([replace(product, items=of_candidates)], 0, len(items), scores)
        if added is not None:
            columns = torch.searchsorted(items, added.items).clamp(max=len(items) - 1)
            among = items[columns] == added.items
            Additions(added.rows[among], columns[among], added.values[among]).add_to(scores)
        if bought is not None:
            rows, columns = bought[0], torch.searchsorted(items, bought[1]).clamp(max=len(items) - 1)
            among = items[columns] == bought[1]
            scores[rows[among], columns[among]] = -torch.inf
        columns = top_items(scores, k, order=fixed_order(self._n_items, items.device)[items])
        return items[columns], scores.gather(1, columns)

    def _of_all(
        self, products: Sequence[Product], users: int, bought: Pairs | None, k: int, added: Additions | None
    ) -> Pairs:
        """Some items at a time, whose maxima are taken while they are at hand."""
        scores, maxima = self._memory(users, products[0].items[0])
        shut, pairs = _Ascending(self.shut), None if bought is None else _by_item(*bought)
        additions = None if added is None else _by_item(added.rows, added.items, added.values)
        for low in range(0, self._n_items, _TILE):
            high = min(low + _TILE, self._n_items)
            tile = scores[:, low:high]
            _add_up(products, low, high, tile)
            for items, rows, values in () if additions is None else additions.between(low, high):
                Additions(rows, items - low, values).add_to(tile)
            for (items,) in shut.between(low, high):
                tile[:, items - low] = -torch.inf
            for items, rows in () if pairs is None else pairs.between(low, high):
                tile[rows, items - low] = -torch.inf
            folds = scores[:, low : low + _TILE].unflatten(1, (-1, FOLD))  # [users, folds, 64]
            maxima[:, low // FOLD : low // FOLD + folds.shape[1]] = folds.amax(dim=2)
        found = top_items(scores, k, maxima, self._order)
        return found, scores.gather(1, found)

    def _memory(self, users: int, like: torch.Tensor) -> Pairs:
        if self._scores is None:
            width = -(-self._n_items // FOLD) * FOLD
            self._order = like.new_zeros(width, dtype=torch.long)
            self._order[: self._n_items] = fixed_order(self._n_items, like.device)
            self._scores = like.new_full((self._rows, width), -torch.inf)
            self._maxima = like.new_empty(self._rows, width // FOLD)
        return self._scores[:users], self._maxima[:users]


def _of_rows(
    rows: torch.Tensor, products: Sequence[Product], users: int, bought: Pairs | None
) -> tuple[list[Product], Pairs | None]:
    """What ``products`` and ``bought`` have of some ``rows [n]`` of the users, who are numbered from 0 there."""
    place = torch.full((users,), -1, device=rows.device)
    place[rows] = torch.arange(len(rows), device=rows.device)
    parts = []
    for product in products:
        places = place[product.rows]
        among = places >= 0
        if among.any() or not parts:  # one at least, whose tables say how scores are kept
            queries = tuple(vectors[among] for vectors in product.queries)
            parts.append(replace(product, rows=places[among], queries=queries))
    if bought is not None:
        places = place[bought[0]]
        bought = places[places >= 0], bought[1][places >= 0]
    return parts, bought


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


def _by_item(rows: torch.Tensor, items: torch.Tensor, *others: torch.Tensor) -> _Ascending:
    order = items.argsort(stable=True)
    return _Ascending(*(column[order] for column in (items, rows, *others)))
