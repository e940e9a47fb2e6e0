"""What purchases add to a score: how often an item was bought soon before or after what its user bought."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_perpeft.likeness.similarity import recency
from recbole_perpeft.model.score_parts import Part

APART = 20  # purchases that two of a user are apart at most, to count
_SHARE = 0.8  # what a pair counts, of one that is one purchase less apart
NEIGHBOURS = 256  # of an item, those of the largest counts
_PURCHASES = 2**11  # whose pairs are counted at a time
_AT_A_TIME = 2**22  # counts that are looked up
_DENSE = 2**24  # counts of a small catalogue's pairs that are multiplied rather than looked up


@dataclass(frozen=True)
class Additions:
    """What is added to some scores of a block of users.

    Attributes
    ----------
    rows, items : torch.LongTensor
        Of each, ``[n]``; a pair may come several times.
    values : torch.Tensor
        ``[n]``.
    """

    rows: torch.Tensor
    items: torch.Tensor
    values: torch.Tensor

    def add_to(self, scores: torch.Tensor) -> torch.Tensor:
        """Add them to ``scores [rows, n_items]``, in place."""
        return scores.index_put_((self.rows, self.items), self.values.to(scores.dtype), accumulate=True)


class PurchaseTerm(nn.Module):
    """``b sum over the user's purchases j of decay ^ age(j) near(j, item) / bought(item) ^ damping``.

    ``near`` counts how often training has both items in a user's purchases, less where more others are between them;
    ``bought`` is how often training has the item. A table of vectors forgets which few items were bought with a rare
    one; a count does not. The weight ``b`` is 0 until one is found in validation
    (:mod:`~recbole_perpeft.trainer.term_weights`), and part of the model's state, as the decay and the damping are. The
    counts are not: they are those of the data that a model is made with.

    Parameters
    ----------
    sequences
        Item ids of each user's training purchases, oldest first.
    n_items
        Padding included.

    Attributes
    ----------
    weight, decay, damping : torch.Tensor
        See above.
    """

    def __init__(self, sequences: Iterable[np.ndarray], n_items: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("decay", torch.ones(()))
        self.register_buffer("damping", torch.zeros(()))
        sequences = list(sequences)
        parts = []
        for one, other, counts in near_counts(sequences, n_items):
            kept = _largest(one, other, counts)
            parts.append((one[kept], other[kept], counts[kept]))
        one, other, counts = map(np.concatenate, zip(*parts, strict=True))
        bought = np.bincount(np.concatenate(sequences), minlength=n_items).clip(min=1)
        self._keep("starts", np.searchsorted(one, np.arange(n_items + 1)))  # [n_items + 1]: of each item's counts
        self._keep("items", other)  # [counts]
        self._keep("counts", counts)  # [counts]
        self._keep("bought", bought.astype(np.float32))  # [n_items]

    def with_items(self, n_items: int) -> "PurchaseTerm":
        """The same for a catalogue that goes on to ``n_items``; nobody has bought the new ones."""
        larger = copy.deepcopy(self)
        new = n_items - len(self._bought)
        larger._starts = torch.cat([self._starts, self._starts[-1:].expand(new)])
        larger._bought = torch.cat([self._bought, self._bought.new_ones(new)])
        return larger

    def _keep(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(f"_{name}", torch.from_numpy(values), persistent=False)

    @property
    def is_used(self) -> bool:
        """Whether scores depend on it."""
        return bool(self.weight > 0)

    def of_all(self, histories: torch.Tensor) -> torch.Tensor:
        """Of all items, without the weight, ``[n, n_items]``; ``histories [n, length]`` are padded, oldest first."""
        if len(self._bought) ** 2 <= _DENSE:
            return self._multiplied(histories)
        scores = self._counts.new_zeros(len(histories), len(self._bought))
        for part in self._looked_up(histories):
            part.add_to(scores)
        return scores

    def _multiplied(self, histories: torch.Tensor) -> torch.Tensor:
        """As :meth:`of_all`, as a product: many times as fast where items have counts with most others."""
        n = len(self._bought)
        near = self._counts.new_zeros(n, n)
        near[torch.arange(n, device=near.device).repeat_interleave(self._starts.diff()), self._items] = self._counts
        shares = near.new_zeros(len(histories), n).scatter_add_(1, histories, recency(histories, self.decay))
        return (shares @ near).div_(self._bought**self.damping)

    def add_to(self, scores: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """Add it to ``scores [n, n_items]``, in place."""
        for part in self._looked_up(histories, self.weight):
            part.add_to(scores)
        return scores

    def additions(self, histories: torch.Tensor) -> Additions:
        """What :meth:`add_to` adds."""
        parts = list(self._looked_up(histories, self.weight))
        return Additions(*(torch.cat([getattr(part, name) for part in parts]) for name in ("rows", "items", "values")))

    def of_pairs(self, histories: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """The same as :meth:`of_all` of one item for each row, ``items [n]``: ``[n]``."""
        found = self._counts.new_zeros(len(histories))
        for part in self._looked_up(histories):
            own = part.items == items[part.rows]
            found.index_add_(0, part.rows[own], part.values[own])
        return found

    def _looked_up(self, histories: torch.Tensor, weight: float | torch.Tensor = 1.0) -> Iterator[Additions]:
        """What each purchase gives to the items that are near it, some rows at a time."""
        lengths = self._starts[1:] - self._starts[:-1]  # [n_items]
        step = max(1, _AT_A_TIME // (histories.shape[1] * NEIGHBOURS))
        for first in range(0, len(histories), step):
            some = histories[first : first + step]
            rows, places = some.nonzero(as_tuple=True)  # [purchases]
            bought, shares = some[rows, places], recency(some, self.decay)[rows, places]
            number = lengths[bought]
            ends = number.cumsum(0)
            at = torch.arange(int(number.sum()), device=some.device)  # [counts]
            at += (self._starts[bought] - ends + number).repeat_interleave(number)
            items = self._items[at]
            values = self._counts[at] * (weight * shares).repeat_interleave(number)
            if self.damping > 0:
                values = values / self._bought[items] ** self.damping
            yield Additions((rows + first).repeat_interleave(number), items, values)


class CountsPurchases:
    """For models whose scores have the purchase term, beside what their ``_histories`` tells of each row's user.

    Attributes
    ----------
    purchase_term : PurchaseTerm or None
        What is added to scores.
    part : Part
        What of scores is computed.
    """

    purchase_term: PurchaseTerm | None  # no default: torch finds a module behind one of the class
    part = Part.ALL

    def _count_purchases(self, config, dataset) -> None:
        """Have the term, if the settings say so; ``dataset`` is the training part."""
        self.purchase_term = None
        if config["purchase_term"]:
            self.purchase_term = PurchaseTerm(dataset.training_sequences().values(), dataset.item_num)

    @property
    def counts_purchases(self) -> bool:
        """Whether scores have the purchase term."""
        return self.part is Part.ALL and self.purchase_term is not None and self.purchase_term.is_used

    def _with_purchases(self, interaction: Interaction, score: Callable[[Interaction], torch.Tensor]) -> torch.Tensor:
        """What ``score`` gives of all items, ``[n, n_items]``, and the term; or the term alone, without its weight."""
        if self.part is Part.PURCHASES:
            return self.purchase_term.of_all(self._histories(interaction))
        scores = score(interaction)
        return self.purchase_term.add_to(scores, self._histories(interaction)) if self.counts_purchases else scores

    def _pairs_with_purchases(
        self, interaction: Interaction, score: Callable[[Interaction], torch.Tensor]
    ) -> torch.Tensor:
        """As :meth:`_with_purchases`, of each row's item, ``[n]``."""
        if not (self.part is Part.PURCHASES or self.counts_purchases):
            return score(interaction)
        near = self.purchase_term.of_pairs(self._histories(interaction), interaction[self.ITEM_ID])
        return near if self.part is Part.PURCHASES else score(interaction) + self.purchase_term.weight * near


def near_counts(sequences: Sequence[np.ndarray], n_items: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """How often two items were bought near each other, some first items at a time.

    A pair that one user bought ``d`` purchases apart counts ``0.8 ** (d - 1)``, up to 20 apart. All pairs at once take
    many times the memory of those that are kept.

    Yields
    ------
    tuple of numpy.ndarray
        One item, the other, and the count, of all pairs of some first items, in order, ``[pairs]`` each.
    """
    items = np.concatenate(sequences).astype(np.int64)
    users = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    places = np.argsort(items, kind="stable")  # of each item's purchases, one item after the other
    ends = np.bincount(items, minlength=n_items).cumsum()
    first = 0
    while first < len(places):
        # whole items: as many as fit, or one
        last = max(np.searchsorted(ends, first + _PURCHASES, side="right") - 1, np.searchsorted(ends, first, "right"))
        block, first = places[first : ends[last]], ends[last]
        pairs, values = zip(*(_pairs(items, users, block, n_items, way) for way in (1, -1)), strict=True)
        both, place = np.unique(np.concatenate(pairs), return_inverse=True)
        after, before = np.split(place, [len(pairs[0])])
        counts = np.bincount(after, values[0], len(both)) + np.bincount(before, values[1], len(both))
        yield *np.divmod(both, n_items), counts.astype(np.float32)


def _pairs(
    items: np.ndarray, users: np.ndarray, places: np.ndarray, n_items: int, way: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of the purchases at ``places [n]`` with those after them (``way`` 1) or before (-1), and what each counts.

    Returns
    -------
    tuple of numpy.ndarray
        The first item times ``n_items`` plus the other one, and the count, ``[pairs]`` each, the nearest first.
    """
    pairs, values = [], []
    for apart in range(1, APART + 1):
        others = places + way * apart
        there = (others >= 0) & (others < len(items))
        here, others = places[there], others[there]
        near = (users[here] == users[others]) & (items[here] != items[others])  # it may have been bought again
        pairs.append(items[here[near]] * n_items + items[others[near]])
        values.append(np.full(len(pairs[-1]), _SHARE ** (apart - 1)))
    return np.concatenate(pairs), np.concatenate(values)


def _largest(one: np.ndarray, other: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which pairs have the largest counts of those with the same first item, the lower other one of equal counts."""
    order = np.lexsort((other, -counts, one))
    starts = np.searchsorted(one, one)  # where the pairs of each one's first item begin
    return np.sort(order[np.arange(len(one)) - starts < NEIGHBOURS])
