"""What PEFT modules learn from likeness: cosines of the content term, as the scores of a softmax of their own."""

from logging import getLogger

import torch
from recbole.data.interaction import Interaction

from recbole_perpeft.config.choices import SHARED
from recbole_perpeft.data.user_batch import UserBatch
from recbole_perpeft.likeness.similarity import profiles
from recbole_perpeft.likeness.softness import SHARPER, likeliest_softness
from recbole_perpeft.model.loss import BatchSoftmaxLoss

_USERS = 2**11  # of more, who make more steps, each step moves what groups learn less: so an epoch moves it alike
TABLES = 2**31  # bytes of all groups' vectors: more would be written anew in each validation


def content_loss(
    vectors: torch.Tensor,
    batch: UserBatch,
    sequence_field: str,
    temperature: float | torch.Tensor,
    decay: float | torch.Tensor,
) -> torch.Tensor:
    """Cross entropy of a batch's targets among its items, by likeness to what was bought before.

    Parameters
    ----------
    vectors
        Unit vectors of the batch's items, ``[m + 1, d]``; row 0 is padding.
    batch
        With shared negatives.
    sequence_field
        Holds what each row's user bought before.
    temperature, decay
        As of :func:`likeliest_softness`.

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
    scores = profiles(vectors, histories, decay) @ vectors.T / temperature  # [n, m + 1]
    return BatchSoftmaxLoss()(scores, targets, excluded, log_weights)


class LearnsContent:
    """Lets PEFT modules learn from the content term; a base of the PerPEFT mixins.

    Attributes
    ----------
    learns_content : bool
        Whether they do: modules move what items are compared by, a batch has candidates and what was bought before each
        target, and a validation gives the term a weight.
    """

    learns_content = False

    def _learn_content(self, config, n_users: int) -> None:
        tower, loss = self.item_tower, getattr(self, "registered_loss", None)
        has_candidates = hasattr(self, "ITEM_SEQ") and loss is not None and loss.negatives == SHARED
        if tower.content_term is None or not has_candidates or not config["eval_step"] > 0:
            return
        encoder = tower.encoder
        if encoder.likeness_is_fixed and encoder.num_groups > 1:
            size = 4 * encoder.num_groups * self.n_items * encoder.likeness_dim
            if size <= TABLES:
                tower.content_term.have_bends(encoder.num_groups, encoder.likeness_dim, min(1, _USERS / n_users))
            else:
                getLogger().info(
                    f"Groups do not learn what is alike for them: their tables would have {size / 2**30:.1f} GiB, "
                    f"more than {TABLES / 2**30:.0f}."
                )
        moves = config["content_weight"] > 0 and not encoder.likeness_is_fixed
        self.learns_content = moves or len(tower.content_term.up) > 0

    @property
    def _learns_now(self) -> bool:
        """Bends are what groups differ in: before there are groups, features that nothing moves teach nothing."""
        return self.learns_content and (not len(self.item_tower.content_term.up) or self.is_grouped)

    @torch.no_grad()
    def fix_likeness(self, purchases: Interaction) -> None:
        """Before the first training step: fix how features are whitened, and the loss's temperature and decay.

        Parameters
        ----------
        purchases
            Rows of the training, each with a target and what was bought before.
        """
        term = self.item_tower.content_term
        if self._learns_now and not term.is_learnt:
            fixed = self.item_tower.encoder.fixed_features()
            table = term.fix_likeness(self.item_tower.content_features(0) if fixed is None else fixed)
            temperature, decay = likeliest_softness(table, purchases[self.ITEM_SEQ], purchases[self.ITEM_ID])
            term.fix_softness(SHARPER * temperature, decay)

    def _content_loss(self, batch: UserBatch) -> torch.Tensor | float:
        """The loss of likeness in ``batch``, ``[]``; 0 before :meth:`fix_likeness`, or where nothing is learnt."""
        term = self.item_tower.content_term
        if not (self._learns_now and term.is_learnt):
            return 0.0
        if len(term.up):
            vectors = term.bent_vectors(batch.items, self.item_tower.module_of(batch.group), self.item_tower.encoder)
        else:
            vectors = term.vectors(self.item_tower.features(batch.items, batch.group))
        return content_loss(vectors, batch, self.ITEM_SEQ, *term.softness)
