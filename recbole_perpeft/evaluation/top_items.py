"""The best items of every user, by one rule for all models: what becomes of equal scores, and of none."""

from functools import lru_cache

import torch

from recbole_perpeft.utils.errors import TrainingError

FOLD = 64  # items that stand side by side, of whose scores the maxima may be known
_FOLDED = 10  # items of which only the best goes on in the first step of _largest
_WORTH_FOLDING = 4  # times k that the folded items should be
_NEVER = torch.iinfo(torch.long).max  # behind the last place of an order


def top_items(
    scores: torch.Tensor, k: int, maxima: torch.Tensor | None = None, order: torch.Tensor | None = None
) -> torch.Tensor:
    """The ``k`` best of every row of ``scores [rows, n]``, best first, ``[rows, k]``.

    ``maxima [rows, n / 64]`` are the largest of each 64 scores that stand side by side; whoever has them saves a pass.
    ``order [n]`` says where each column stands among equal scores: some items' places in the :func:`fixed_order` of
    all, where ``scores`` are of these; left out, that of ``n`` items.

    Equal scores are ranked in a random order of the items that is the same for all users, models and machines. The
    order in which ``topk`` gives them depends on the machine and favours ids that stand first, or last, in a file.
    Where fewer than k items have a score above minus infinity, 0 (padding) stands for the rest.

    Raises
    ------
    TrainingError
        If a score is not a number, which ``topk`` would rank above all others.
    """
    more = min(k + 1, scores.shape[1])  # to see a tie at the end of the list
    if maxima is None or maxima.shape[1] < more:
        values, items = _largest(scores, more)
    else:
        values, items = _largest_of_folds(scores, maxima, more)
    if torch.isnan(values[:, 0]).any():  # the largest there is
        refuse_nan(scores)
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)  # [rows, k]
    values, items = values[:, :k], items[:, :k]
    tied = equal.any(dim=1).nonzero().squeeze(1)
    if len(tied):
        order = fixed_order(scores.shape[1], scores.device) if order is None else order
        items[tied] = _in_order(scores[tied], values[tied], items[tied], order)
    return items.masked_fill(values == -torch.inf, 0)


def refuse_nan(scores: torch.Tensor) -> None:
    """Refuse scores that are not numbers.

    Raises
    ------
    TrainingError
        If there is one.
    """
    broken = torch.isnan(scores)
    if broken.any():
        raise TrainingError(
            f"{int(broken.sum())} of {scores.numel()} scores are not numbers (NaN), so items cannot be ranked: lower "
            "learning_rate, or set clip_grad_norm: {max_norm: 1.0}."
        )


def _largest(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``scores.topk(k)``, ``[rows, k]`` each, but faster on long rows.

    The best k are among the columns of a folded row, ``n / 10`` of them with 10 items each, that have the k best
    maxima.
    """
    rows, n = scores.shape
    width = n // _FOLDED
    if width < _WORTH_FOLDING * k:
        return scores.topk(k)
    folded = scores[:, : width * _FOLDED].view(rows, _FOLDED, width)
    columns = folded.amax(dim=1).topk(k, sorted=False).indices  # [rows, k]
    offsets = torch.arange(0, width * _FOLDED, width, device=scores.device)  # [10]
    rest = torch.arange(width * _FOLDED, n, device=scores.device)  # what the fold leaves over
    candidates = torch.cat(
        [(columns.unsqueeze(1) + offsets.unsqueeze(1)).flatten(1), rest.expand(rows, -1)], dim=1
    )  # [rows, 10 k + rest]
    values, places = scores.gather(1, candidates).topk(k)
    return values, candidates.gather(1, places)


def _largest_of_folds(scores: torch.Tensor, maxima: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`_largest`: the best k are among the items of the k folds with the largest ``maxima``."""
    folds = maxima.topk(k, sorted=False).indices  # [rows, k]
    candidates = (folds.unsqueeze(2) * FOLD + torch.arange(FOLD, device=scores.device)).flatten(1)  # [rows, 64 k]
    values, places = scores.gather(1, candidates).topk(k)
    return values, candidates.gather(1, places)


def _in_order(scores: torch.Tensor, values: torch.Tensor, items: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The best items of ``scores [rows, n]``, ``[rows, k]``, with equal scores by their place in ``order [n]``.

    ``values`` and ``items [rows, k]`` are the best in any order of equal scores: right above the last of them.
    """
    k, last = values.shape[1], values[:, -1:]  # [rows, 1]
    # of all that have the last score, the k first in order
    at_last = torch.where(scores == last, order, _NEVER).topk(k, largest=False)
    candidates = torch.cat([items, at_last.indices], dim=1)  # [rows, 2 k]
    lasts = torch.where(at_last.values < _NEVER, last, -torch.inf)
    found = torch.cat([torch.where(values > last, values, -torch.inf), lasts], dim=1)  # [rows, 2 k]
    by_order = order[candidates].argsort(dim=1)
    by_score = found.gather(1, by_order).argsort(dim=1, descending=True, stable=True)
    return candidates.gather(1, by_order.gather(1, by_score))[:, :k]


@lru_cache(maxsize=4)
def fixed_order(n: int, device: torch.device) -> torch.Tensor:
    """Place of each of ``n`` items in the order in which equal scores are ranked, ``[n]``."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)).to(device)
