"""Items with large inner products, found by a graph of near ones: for catalogues that are too large to be gone through.

The graphs are of inner products as they are. The usual way around these, a further dimension that gives all items one
length, loses most of the items that it should find where lengths differ much (docs/serving.md).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from recbole_perpeft.evaluation.top_items import top_items
from recbole_perpeft.model.purchase_term import Additions
from recbole_perpeft.serving.products import Product
from recbole_perpeft.serving.ranking import AdditionsOf, Pairs, Ranking
from recbole_perpeft.utils.errors import RequestError

_NEIGHBOURS, _TRIED_IN_BUILDING = 32, 100  # faiss's M, and how many items it compares an item with when it adds it
_GATHERED = 2**25  # numbers of candidates' vectors that are in memory at a time, 128 MB


@dataclass(frozen=True)
class IndexReport:
    """What an index is worth.

    Attributes
    ----------
    recall : float
        Share of the best items by all scores that it finds.
    k, users : int
        Of lists so long, of so many users.
    groups : int
        Graphs that were built.
    seconds : float
        It took to build them.
    """

    recall: float
    k: int
    users: int
    groups: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"index: recall@{self.k} {self.recall:.4f} against all scores, of {self.users:,} users; {self.groups} "
            f"graph{'s' * (self.groups != 1)}, built in {self.seconds:.1f} s"
        )


class ItemIndex:
    """A graph (HNSW, of faiss) of the items as each group sees them.

    Parameters
    ----------
    candidates
        Items that are compared for each user and group; more are slower and find more.

    Raises
    ------
    RequestError
        If faiss is missing, or the number is none.
    """

    def __init__(self, candidates: int = 256):
        if not isinstance(candidates, int) or isinstance(candidates, bool) or candidates < 1:
            raise RequestError(f"candidates: {candidates!r} is no number of items: give 1 or more.")
        self._faiss, self.candidates = _faiss(), candidates
        self._graphs: dict[int, Any] = {}  # by group

    def build(self, products: Sequence[Product], users: int, k: int, added: AdditionsOf | None = None) -> IndexReport:
        """Build the graphs of the groups of ``products``, and compare lists of ``users`` with those by all scores."""
        start = time.perf_counter()
        for product in products:
            self._graph(product)
        seconds = time.perf_counter() - start
        nothing = torch.zeros(1, dtype=torch.long, device=products[0].rows.device)  # padding
        exact, _ = Ranking(len(products[0].items[0]), users, nothing).of_products(products, users, None, k, added)
        found, _ = self.best(products, users, nothing, None, k, added)
        same = (found.unsqueeze(2) == exact.unsqueeze(1)).any(dim=1)  # [users, k]
        return IndexReport(float(same.float().mean()), k, users, len(products), seconds)

    @torch.no_grad()
    def best(
        self,
        products: Sequence[Product],
        users: int,
        shut: torch.Tensor,
        bought: Pairs | None,
        k: int,
        added: AdditionsOf | None = None,
    ) -> Pairs:
        """As :meth:`~recbole_perpeft.serving.ranking.Ranking.of_products`, among the candidates of each user's groups.

        Items to which the most is added are candidates too.

        Where fewer than k of these are left, 0 (padding) stands for the rest, with a score of minus infinity.
        """
        n_items, device = len(products[0].items[0]), products[0].rows.device
        found = [torch.zeros(users, 1, dtype=torch.long, device=device)]
        for product in products:
            of_group = self._nearest(product)
            nearest = of_group.new_zeros(users, of_group.shape[1])
            nearest[product.rows] = of_group
            found.append(nearest)
        additions = None if added is None else added(torch.arange(users, device=device))
        if additions is not None:
            found.append(self._most_added(additions, users))
        items = torch.cat(found, dim=1).sort(dim=1).values  # [users, candidates]
        scores = torch.zeros(items.shape, device=device)
        for product in products:
            of_rows = items[product.rows]  # [m, candidates]
            for queries, table in zip(product.queries, product.items, strict=True):
                scores[product.rows] += _scores_of(of_rows, queries, table)
        if additions is not None:
            _add(additions, items, scores, n_items)
        scores[:, 1:].masked_fill_(items[:, 1:] == items[:, :-1], -torch.inf)  # once each
        scores.masked_fill_(torch.isin(items, shut) | (items == 0), -torch.inf)
        if bought is not None:
            rows = torch.arange(users, device=device).unsqueeze(1) * n_items
            scores.masked_fill_(torch.isin(rows + items, bought[0] * n_items + bought[1]), -torch.inf)
        places = top_items(scores, min(k, scores.shape[1]))
        return items.gather(1, places), scores.gather(1, places)

    def _most_added(self, additions: Additions, users: int) -> torch.Tensor:
        """Items to which the most is added, ``[users, n]``; 0 (padding) stands for what is missing."""
        order = additions.values.argsort(descending=True, stable=True)
        order = order[additions.rows[order].argsort(stable=True)]
        rows, items = additions.rows[order], additions.items[order]
        numbers = rows.bincount(minlength=users)
        places = torch.arange(len(rows), device=rows.device) - (numbers.cumsum(0) - numbers)[rows]
        kept = places < self.candidates
        found = items.new_zeros(users, min(int(numbers.max()), self.candidates))
        found[rows[kept], places[kept]] = items[kept]
        return found

    def _nearest(self, product: Product) -> torch.Tensor:
        graph = self._graph(product)
        graph.hnsw.efSearch = min(self.candidates, graph.ntotal)
        self._faiss.omp_set_num_threads(torch.get_num_threads())
        queries = torch.cat(product.queries, dim=1).cpu().contiguous().numpy()
        _, numbers = graph.search(queries, min(self.candidates, graph.ntotal))
        return torch.from_numpy(numbers).to(product.rows.device) + 1  # padding is not in the graph; -1 becomes it

    def _graph(self, product: Product) -> Any:
        if product.group not in self._graphs:
            vectors = torch.cat(product.items, dim=1)[1:].detach().cpu().contiguous().numpy()  # [n_items - 1, d]
            self._faiss.omp_set_num_threads(torch.get_num_threads())
            graph = self._faiss.IndexHNSWFlat(vectors.shape[1], _NEIGHBOURS, self._faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efConstruction = _TRIED_IN_BUILDING
            graph.add(vectors)
            self._graphs[product.group] = graph
        return self._graphs[product.group]


def _scores_of(items: torch.Tensor, queries: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Inner products of ``queries [m, d]`` and the rows of ``table [n_items, d]`` that ``items [m, n]`` name."""
    step = max(1, _GATHERED // (items.shape[1] * table.shape[1]))
    parts = zip(items.split(step), queries.split(step), strict=True)
    return torch.cat([torch.bmm(table[some], vectors.unsqueeze(2)).squeeze(2) for some, vectors in parts])


def _add(additions: Additions, items: torch.Tensor, scores: torch.Tensor, n_items: int) -> None:
    """Add to ``scores [users, n]`` of ``items [users, n]``, ascending in a row, what is added to these."""
    users = torch.arange(len(items), device=items.device).unsqueeze(1)
    pairs, wanted = (users * n_items + items).flatten(), additions.rows * n_items + additions.items
    first = torch.searchsorted(pairs, wanted).clamp(max=len(pairs) - 1)  # an item's others are left out
    there = pairs[first] == wanted
    scores.view(-1).index_add_(0, first[there], additions.values[there])


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise RequestError('An index needs faiss: pip install "recbole-perpeft[index]".') from error
    return faiss
