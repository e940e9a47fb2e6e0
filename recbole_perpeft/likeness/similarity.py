"""How like two items' content is, at the encoder's full width, and how like an item is to what a user bought."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from recbole_perpeft.config.choices import RAW, WHITENED
from recbole_perpeft.utils.mapped_rows import blocks

# Of the mean variance, added to that of every direction before it is scaled to 1: of few items, or where features
# hardly vary, a variance is mostly chance.
_RIDGE = 0.01
_CHUNK = 16_384  # items in double precision at a time, not a large catalogue several times over


@dataclass(frozen=True)
class LikenessMap:
    """What makes vectors to compare items by of features, fitted to a catalogue; items of later go through it too.

    Attributes
    ----------
    mean : torch.Tensor
        Taken off, ``[d]``, in double precision.
    factor : torch.Tensor or None
        A triangular matrix, whose inverse is multiplied with; ``[d, d]``, in double precision.
    bend : tuple of torch.Tensor or None
        What was learnt of which directions count: ``up [d, r]`` and ``down [r, d]``, of :func:`bent`.
    """

    mean: torch.Tensor
    factor: torch.Tensor | None
    bend: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def fitted(cls, features: torch.Tensor, form: str = WHITENED) -> "LikenessMap":
        """That of a catalogue's ``features [n, d]``.

        Parameters
        ----------
        form
            ``raw`` takes them as they are; ``centred`` takes the catalogue's mean off; ``whitened`` lets every
            direction vary about as much as any other (whitening with a ridge), so that what sets a few items apart
            counts as much as what all texts of a catalogue have in common.
        """
        mean = torch.zeros(features.shape[1], dtype=torch.double, device=features.device)
        if form != RAW:
            mean = sum(chunk.double().sum(dim=0) for chunk in blocks(features, _CHUNK)) / len(features)
        if form != WHITENED:
            return cls(mean, None)
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.double, device=features.device)
        for chunk in blocks(features, _CHUNK):
            rows = chunk.double() - mean
            covariance.addmm_(rows.T, rows)
        covariance /= max(len(features), 1)
        ridge = _RIDGE * covariance.diagonal().mean() + torch.finfo(torch.float32).tiny  # of items that are all alike
        covariance.diagonal().add_(ridge)
        # all maps that whiten are rotations of each other; this one is the quickest
        return cls(mean, torch.linalg.cholesky(covariance))

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Vectors of length 1, whose inner products are cosines, of ``features [n, d]``, in single precision.

        An item that is no different from the mean gets zeros.
        """
        return torch.cat(list(self.in_blocks(features)))

    def with_gradient(self, features: torch.Tensor) -> torch.Tensor:
        """As a call, in single precision throughout, for ``features [n, d]`` that are being trained."""
        rows = features.float() - self.mean.float()
        if self.factor is not None:
            rows = torch.linalg.solve_triangular(self.factor.float(), rows.T, upper=False).T
        return F.normalize(rows)

    def in_blocks(self, features: torch.Tensor) -> Iterator[torch.Tensor]:
        """As a call, some items at a time."""
        return map(self._vectors, blocks(features, _CHUNK))

    def _vectors(self, features: torch.Tensor) -> torch.Tensor:
        rows = features.double() - self.mean
        if self.factor is not None:
            rows = torch.linalg.solve_triangular(self.factor, rows.T, upper=False).T
        vectors = F.normalize(rows).float()
        return vectors if self.bend is None else bent(vectors, *self.bend)


def bent(vectors: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """``v + v up down`` of unit ``vectors [n, d]``, of length 1 again; with ``up [d, r]`` and ``down [r, d]``."""
    return F.normalize(vectors + vectors @ up @ down)


def unit_vectors(features: torch.Tensor, form: str = WHITENED) -> torch.Tensor:
    """The items' features as vectors of length 1 that they are compared by.

    Parameters
    ----------
    features
        Of all items, ``[n_items, d]``; row 0 is padding.
    form
        See :meth:`LikenessMap.fitted`.

    Returns
    -------
    torch.Tensor
        ``[n_items, d]``; row 0 is zeros.
    """
    return F.pad(LikenessMap.fitted(features[1:], form)(features[1:]), (0, 0, 1, 0))


def profiles(vectors: torch.Tensor, histories: torch.Tensor, decay: float | torch.Tensor) -> torch.Tensor:
    """What users bought, as one vector each: the sum of its vectors, each purchase ``decay`` times the one after it.

    Parameters
    ----------
    vectors
        Of all items, ``[n_items, r]``; row 0 is zeros.
    histories
        Items of each user, oldest first, ``[n, length]``, padded with zeros at the end; ``length`` is 1 or more.
    decay
        From 0 (the last purchase alone) to 1 (all alike).

    Returns
    -------
    torch.Tensor
        ``[n, r]``, of length 1; zeros for a user who bought nothing.
    """
    weights = recency(histories, decay)
    return F.normalize(F.embedding_bag(histories, vectors, mode="sum", per_sample_weights=weights))


def recency(histories: torch.Tensor, decay: float | torch.Tensor) -> torch.Tensor:
    """What each of a user's purchases weighs, ``[n, length]``: 1 the last, ``decay`` times as much the one before it.

    Of ``histories [n, length]``, oldest first, padded with zeros at the end, which weigh nothing.
    """
    lengths = (histories > 0).sum(dim=1, keepdim=True)  # [n, 1]
    ages = (lengths - 1 - torch.arange(histories.shape[1], device=histories.device)).clamp(min=0)  # [n, length]
    # a tensor stays where it is: to read it as a number would wait for a GPU
    return (torch.as_tensor(decay, dtype=torch.float, device=histories.device) ** ages) * (histories > 0)
