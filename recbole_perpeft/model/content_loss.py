"""What PEFT modules learn from likeness: cosines of the content term, as the scores of a softmax of their own."""

import torch

from recbole_perpeft.config.choices import SHARED
from recbole_perpeft.data.user_batch import UserBatch
from recbole_perpeft.model.content_similarity import profiles
from recbole_perpeft.model.loss import BatchSoftmaxLoss

TEMPERATURE = 0.2  # what cosines are divided by
DECAY = 0.8  # what a purchase weighs, as a share of the one after it; the term's own is found in validation


def content_scores(vectors: torch.Tensor, histories: torch.Tensor, others: torch.Tensor | None = None) -> torch.Tensor:
    """Cosines to what users bought, over the temperature.

    Parameters
    ----------
    vectors
        Unit vectors of the items that histories name, ``[m + 1, d]``; row 0 is padding.
    histories
        Rows of ``vectors``, oldest first, ``[n, length]``, padded with zeros at the end.
    others
        Unit vectors of what is scored, ``[columns, d]``; None: all of ``vectors``.

    Returns
    -------
    torch.Tensor
        ``[n, columns]``.
    """
    return profiles(vectors, histories, DECAY) @ (vectors if others is None else others).T / TEMPERATURE


def content_loss(vectors: torch.Tensor, batch: UserBatch, sequence_field: str) -> torch.Tensor:
    """Cross entropy of a batch's targets among its items, by likeness to what was bought before.

    Parameters
    ----------
    vectors
        Unit vectors of the batch's items, ``[m + 1, d]``; row 0 is padding.
    batch
        With shared negatives.
    sequence_field
        Holds what each row's user bought before.

    Returns
    -------
    torch.Tensor
        ``[]``.
    """
    histories, targets = batch[sequence_field], batch[batch.id_fields[1]]
    excluded, log_weights = batch.excluded, batch.log_weights
    if batch.whole:
        columns = torch.cat([batch.items.new_zeros(1), batch.items]).to(histories.device)  # [m + 1]
        place = histories.new_zeros(max(excluded.shape[1], int(histories.max()) + 1))  # of mask tokens too
        place[columns] = torch.arange(len(columns), device=place.device)
        histories, targets, excluded = place[histories], place[targets], excluded[:, columns]
        log_weights = None if log_weights is None else log_weights[columns]
    return BatchSoftmaxLoss()(content_scores(vectors, histories), targets, excluded, log_weights)


class LearnsContent:
    """Lets PEFT modules learn from the content term; a base of the PerPEFT mixins.

    Attributes
    ----------
    learns_content : bool
        Whether they do: modules move what items are compared by, a batch has candidates and what was bought before each
        target, and a validation gives the term a weight.
    """

    learns_content = False

    def _learn_content(self, config) -> None:
        tower, loss = self.item_tower, getattr(self, "registered_loss", None)
        moves = tower.content_term is not None and config["content_weight"] > 0 and not tower.encoder.likeness_is_fixed
        has_candidates = hasattr(self, "ITEM_SEQ") and loss is not None and loss.negatives == SHARED
        self.learns_content = moves and has_candidates and config["eval_step"] > 0

    def fix_likeness(self) -> None:
        """Before the first training step: what features are whitened by from now on is that of those of now."""
        if self.learns_content and not self.item_tower.content_term.is_learnt:
            self.item_tower.content_term.fix_likeness(self.item_tower.content_features(0))

    def _content_loss(self, batch: UserBatch) -> torch.Tensor:
        """The loss of likeness in ``batch``, ``[]``."""
        features = self.item_tower.features(batch.items, batch.group)
        return content_loss(self.item_tower.content_term.vectors(features), batch, self.ITEM_SEQ)
