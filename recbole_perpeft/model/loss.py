"""Losses that RecBole's backbones call as they call their own: ``loss_fct(...)``."""

from dataclasses import dataclass

import torch
from recbole.model.loss import BPRLoss
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.config.choices import PAIRS, SHARED


class BCELoss(nn.Module):
    """The paper's loss: binary cross entropy of the positive plus that of the negative, each a mean.

    Called like RecBole's ``BPRLoss``: ``forward(pos_score [n], neg_score [n]) -> scalar``.
    """

    def forward(self, pos_score: torch.Tensor, neg_score: torch.Tensor) -> torch.Tensor:
        """The loss of scores, before any sigmoid."""
        return F.softplus(-pos_score).mean() + F.softplus(neg_score).mean()


class BatchSoftmaxLoss(nn.Module):
    """Softmax cross entropy over the batch's items and shared negatives.

    Called like ``nn.CrossEntropyLoss``: ``forward(logits [n, m + 1], targets [n]) -> scalar``. ``excluded``
    (``[n, m + 1]``, set per step) marks what is no candidate of a row: padding and the user's own purchases.
    ``log_weights`` (``[m + 1]``, likewise; None: zeros) says for how many items each candidate but the target stands.
    """

    excluded: torch.Tensor | None = None
    log_weights: torch.Tensor | None = None

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of ``logits`` over the rows of the batch's item table."""
        if self.log_weights is not None:
            weights = self.log_weights.expand(len(targets), -1)  # [n, m + 1]
            logits = logits + weights.scatter(1, targets[:, None], 0)
        return F.cross_entropy(logits.masked_fill(self.excluded, -torch.inf), targets)


@dataclass(frozen=True)
class Loss:
    """A value of ``loss_type``.

    Attributes
    ----------
    make : type
        The module.
    negatives : str
        The kind of negatives that it compares a purchase with.
    """

    make: type[nn.Module]
    negatives: str


LOSSES = {"CE": Loss(BatchSoftmaxLoss, SHARED), "BPR": Loss(BPRLoss, PAIRS), "BCE": Loss(BCELoss, PAIRS)}
