"""How well scores rank a validation's positives, smoothly enough to tell near settings apart on some of the users.

The gain of a positive with so many items ``above`` it is log(4 k / (k + 2 above)), and 0 from 1.5 k on. It is flatter
than NDCG@k at the top and goes on beyond k, so that more users say something, and few of them much: what is best of
many settings on some users is then better for the others (docs/method.md).
"""

from collections.abc import Iterator, Sequence

import torch

from recbole_perpeft.utils import processes

ROWS = 1500  # users of a search, if it does not say how many
_LEAST = 20  # the shortest lists that searches go by: of shorter ones most users would say nothing
_CACHED = 2**16  # scores that a core keeps at hand, to be mixed with one weight after the other


def some_batches(loader, most: int = ROWS) -> Iterator[tuple]:
    """Batches of an evaluation's ``loader`` with ``most`` of its users at most, evenly spread.

    The users are the same whatever the size of a batch. Each of several processes gets all batches, and scores its own
    (:func:`~recbole_perpeft.utils.processes.is_own`).
    """
    users = loader.rows_in_order()
    with processes.alone():
        blocks = loader.blocks_of(users[:: -(-len(users) // most)])
    yield from map(loader.collate_fn, blocks)


def length_of(metric: str, n_items: int) -> int:
    """k of the gains in searches for the best ``metric``: 20 of NDCG@20, ``n_items`` of AUC, which has none."""
    _, _, k = metric.partition("@")
    return max(int(k), _LEAST) if k else n_items


def rank_gain(scores: torch.Tensor, positive_u: torch.Tensor, positive_i: torch.Tensor, k: int) -> float:
    """Sum of the positives' gains.

    Parameters
    ----------
    scores
        ``[rows, n_items]``, minus infinity for what is not ranked.
    positive_u, positive_i
        Row and item of each positive, ``[n]``.
    k
        From :func:`length_of`.
    """
    own = scores[positive_u, positive_i]
    rows = scores if len(positive_u) == len(scores) else scores[positive_u]
    above = torch.gt(rows, own[:, None], out=torch.empty_like(rows))
    better = above @ above.new_ones(above.shape[1])  # a product counts five times as fast as a sum of booleans
    return float(gains(better, k).sum())


def rank_gains(
    scores: torch.Tensor,
    term: torch.Tensor,
    weights: Sequence[float],
    positive_u: torch.Tensor,
    positive_i: torch.Tensor,
    k: int,
) -> torch.Tensor:
    """:func:`rank_gain` of ``scores + weight * term``, for each of ``weights``.

    Parameters
    ----------
    scores, term
        ``[rows, n_items]`` each, minus infinity for what is not ranked.
    weights
        None below 0.
    positive_u, positive_i, k
        As of :func:`rank_gain`.

    Returns
    -------
    torch.DoubleTensor
        ``[len(weights)]``.
    """
    parts = [each if len(positive_u) == len(each) else each[positive_u] for each in (scores, term)]  # [n, n_items] each
    own, own_term = scores[positive_u, positive_i], term[positive_u, positive_i]
    behind = _above_in_both(parts, (own, own_term))  # most positives are behind many items, whatever the weight
    kept = (behind < 1.5 * k).nonzero().squeeze(1)
    parts, own, own_term = [part[kept] for part in parts], own[kept], own_term[kept]
    owns = torch.stack([torch.add(own, own_term, alpha=weight) for weight in weights])  # [weights, n]
    better, ones = torch.empty_like(owns), scores.new_ones(scores.shape[1])
    step = max(1, _CACHED // scores.shape[1])
    mixed = scores.new_empty(step, scores.shape[1])
    above = torch.empty_like(mixed)
    for first in range(0, len(own), step):
        some, of_term = (part[first : first + step] for part in parts)
        rows = slice(first, first + len(some))
        for number, weight in enumerate(weights):
            torch.add(some, of_term, alpha=weight, out=mixed[: len(some)])
            torch.gt(mixed[: len(some)], owns[number, rows, None], out=above[: len(some)])
            torch.mv(above[: len(some)], ones, out=better[number, rows])
    return gains(better, k).sum(dim=1).cpu()


def _above_in_both(parts: Sequence[torch.Tensor], owns: Sequence[torch.Tensor]) -> torch.Tensor:
    """How many items of each row are above its own value in both of two ``parts [n, n_items]``, ``[n]``."""
    found, ones = owns[0].new_empty(len(owns[0])), owns[0].new_ones(parts[0].shape[1])
    step = max(1, _CACHED // parts[0].shape[1])
    above, too = (parts[0].new_empty(step, parts[0].shape[1]) for _ in range(2))
    for first in range(0, len(found), step):
        rows = slice(first, first + step)
        n = len(found[rows])
        torch.gt(parts[0][rows], owns[0][rows, None], out=above[:n])
        torch.gt(parts[1][rows], owns[1][rows, None], out=too[:n])
        torch.mv(above[:n].mul_(too[:n]), ones, out=found[rows])
    return found


def gains(above: torch.Tensor, k: int) -> torch.Tensor:
    """The gain of each positive that has so many items ``above`` it, in double precision."""
    return torch.log(4 * k / (k + 2 * above.double())).clamp(min=0)
