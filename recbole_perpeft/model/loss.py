"""Losses that RecBole's backbones call as they call their own: ``loss_fct(...)``."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from recbole.model.loss import BPRLoss
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.config.choices import PAIRS, SHARED
from recbole_perpeft.data.user_batch import UserBatch


class BCELoss(nn.Module):
    """The paper's loss: binary cross entropy of the positive plus that of the negative, each a mean.

    Called like RecBole's ``BPRLoss``: ``forward(pos_score [n], neg_score [n]) -> scalar``.
    """

    def forward(self, pos_score: torch.Tensor, neg_score: torch.Tensor) -> torch.Tensor:
        """The loss of scores, before any sigmoid."""
        return F.softplus(-pos_score).mean() + F.softplus(neg_score).mean()


class BatchSoftmaxLoss(nn.Module):
    """Softmax cross entropy over the batch's items and shared negatives.

    Called like ``nn.CrossEntropyLoss``: ``forward(logits [n, m + 1], targets [n], ...) -> scalar``.
    """

    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        excluded: torch.Tensor,
        log_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of ``logits`` over the rows of the batch's item table.

        Parameters
        ----------
        logits, targets
            ``[n, m + 1]`` and ``[n]``.
        excluded
            What is no candidate of a row: padding and the user's own purchases, bool ``[n, m + 1]``.
        log_weights
            The logarithm of how many items each candidate but the target stands for, ``[m + 1]``; None: one.
        """
        if log_weights is not None:
            logits = logits + log_weights.expand(len(targets), -1).scatter(1, targets[:, None], 0)  # [n, m + 1]
        return F.cross_entropy(logits.masked_fill(excluded, -torch.inf), targets)


@dataclass(frozen=True)
class Loss:
    """A value of ``loss_type``.

    Attributes
    ----------
    make : type
        The module. Its ``forward`` takes scores of positives and negatives, ``[n]`` each, where these are
        :data:`~recbole_perpeft.config.choices.PAIRS`; the arguments of :class:`BatchSoftmaxLoss` where they are
        :data:`~recbole_perpeft.config.choices.SHARED`.
    negatives : str
        The kind of negatives that it compares a purchase with.
    """

    make: type[nn.Module]
    negatives: str

    @property
    def called_as(self) -> str:
        """The one of RecBole's losses that is called with the same arguments by its backbones."""
        return "CE" if self.negatives == SHARED else "BPR"

    def of(self, module: nn.Module, batch: UserBatch) -> Callable[..., torch.Tensor]:
        """``module``, one that :attr:`make` has made, as a backbone calls it in a step on ``batch``."""
        if self.negatives != SHARED:
            return module
        return partial(module, excluded=batch.excluded, log_weights=batch.log_weights)


LOSSES = {"CE": Loss(BatchSoftmaxLoss, SHARED), "BPR": Loss(BPRLoss, PAIRS), "BCE": Loss(BCELoss, PAIRS)}
