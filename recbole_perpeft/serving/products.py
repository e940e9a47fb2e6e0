"""Scores as inner products of vectors: of users, and of items as each group sees them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import nn

from recbole_perpeft.model.perpeft import PerPEFTMixin
from recbole_perpeft.model.purchase_term import Additions

_CLOSE = 1e-4  # of a score, between two ways of adding up the same products


@dataclass(frozen=True)
class Product:
    """What a group's module has of the scores: the sum of ``queries @ items.T`` over pairs of them.

    Attributes
    ----------
    group : int
        Whose items these are.
    rows : torch.LongTensor
        The users that it is of, ``[m]``.
    queries : tuple of torch.Tensor
        ``[m, d]`` each.
    items : tuple of torch.Tensor
        ``[n_items, d]`` each.
    """

    group: int
    rows: torch.Tensor
    queries: tuple[torch.Tensor, ...]
    items: tuple[torch.Tensor, ...]

    def scores(self) -> torch.Tensor:
        """``[m, n_items]``."""
        return sum(queries @ items.T for queries, items in zip(self.queries, self.items, strict=True))


@torch.no_grad()
def has_products(model: nn.Module, interaction: Interaction) -> bool:
    """Whether a model's scores are inner products but for :func:`additions_of`, as many sequential backbones' are.

    These multiply what ``forward`` makes of a sequence with the item table. It is tried on the rows of ``interaction``.
    """
    if not isinstance(model, SequentialRecommender):
        return False
    products, scores = products_of(model, interaction), _dense(model, interaction)
    if products is None or scores is None or not all(_fits(product, scores.shape[1]) for product in products):
        return False
    summed = torch.zeros_like(scores)
    for product in products:
        summed.index_add_(0, product.rows, product.scores())
    if (added := additions_of(model, interaction)) is not None:
        added(torch.arange(len(summed), device=summed.device)).add_to(summed)
    return torch.allclose(summed[:, 1:], scores[:, 1:], rtol=_CLOSE, atol=_CLOSE)


def _fits(product: Product, n_items: int) -> bool:
    """Whether vectors are as wide as each other; HGN's items have two parts, which score apart."""
    pairs = zip(product.queries, product.items, strict=True)
    return all(len(items) == n_items and queries.shape[1] == items.shape[1] for queries, items in pairs)


def additions_of(model: nn.Module, interaction: Interaction) -> Callable[[torch.Tensor], Additions] | None:
    """Gives, for rows ``[n]`` of ``interaction``, what is added to the products; None where nothing is."""
    if not (isinstance(model, PerPEFTMixin) and model.counts_purchases):
        return None
    histories = model._histories(interaction)  # [rows, length]
    return lambda rows: model.purchase_term.additions(histories[rows])


@torch.no_grad()
def products_of(model: nn.Module, interaction: Interaction) -> list[Product] | None:
    """What scores are the sum of, but for :func:`additions_of`; None where ``forward`` gives no vector for each row."""
    if not isinstance(model, PerPEFTMixin):
        queries, table = _output(model, interaction, model.full_sort_predict), getattr(model, "item_embedding", None)
        if queries is None or not isinstance(table, nn.Embedding):
            return None
        everyone = torch.arange(len(interaction), device=model.device)
        return [Product(0, everyone, (queries,), (table.weight[: model.n_items],))]
    if model.item_tower.by_user:
        return None
    shares, products = model.shares_of_groups(interaction), []  # [n, num_groups]
    tower = model.item_tower
    for group in shares.sum(dim=0).nonzero().flatten().tolist():
        rows = shares[:, group].nonzero().squeeze(1)
        share, of_group = shares[rows, group, None], interaction if len(rows) == len(interaction) else interaction[rows]
        with tower.catalogue(group):
            queries = _output(model, of_group, model._backbone_scores)
            if queries is None:
                return None
            vectors, tables = [share * queries], [tower.weight[: model.n_items]]
            term = tower.content_term
            if term is not None and term.is_used:
                vectors.append(share * term.queries(model._histories(of_group)))
                tables.append(term.table)
        products.append(Product(group, rows, tuple(vectors), tuple(tables)))
    return products


def _dense(model: nn.Module, interaction: Interaction) -> torch.Tensor | None:
    try:
        return model.full_sort_predict(interaction).view(len(interaction), -1)
    except NotImplementedError:
        return None


class _Given(Exception):
    """Carries what ``forward`` gives past the scores, which are not needed."""


def _output(model: nn.Module, interaction: Interaction, score: Callable[[Interaction], object]) -> torch.Tensor | None:
    """What ``forward`` makes of each row on the way to its scores, ``[n, d]``; None, if that is no vector a row."""
    forward = model.forward

    def given(*args, **kwargs):
        raise _Given(forward(*args, **kwargs))

    model.forward = given
    try:
        score(interaction)
    except _Given as found:
        (output,) = found.args
    except NotImplementedError:
        return None
    else:
        return None
    finally:
        del model.forward
    is_one_each = isinstance(output, torch.Tensor) and output.dim() == 2 and len(output) == len(interaction)
    return output if is_one_each else None
