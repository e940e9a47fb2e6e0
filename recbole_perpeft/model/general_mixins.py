"""What RecBole's general recommenders need beside the item tower: user vectors, propagated tables."""

from collections.abc import Iterator

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import nn

from recbole_perpeft.config.choices import LABELS, PAIRS
from recbole_perpeft.model.perpeft import PerPEFTMixin


class GeneralMixin(PerPEFTMixin):
    """As :class:`~recbole_perpeft.model.perpeft.PerPEFTMixin`, for general recommenders; losses are the backbone's.

    Attributes
    ----------
    trains_by_user : bool
        Whether the backbone's loss takes users with all their purchases, instead of purchases one by one.
    """

    losses = ()
    trains_by_user = False
    settings_from = ("Content", "PerPEFT", "PerPEFTGeneral")

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        vars(self).update(self.holdings(dataset))

    def holdings(self, dataset) -> dict[str, object]:
        """What the model holds of the purchases of ``dataset`` beside its backbone, by attribute."""
        return {"_purchases": _padded(dataset.training_sequences(), dataset.user_num).to(self.device)}

    @classmethod
    def negatives_with(cls, loss_type: str | None) -> str | None:
        """As :meth:`PerPEFTMixin.negatives_with`; those of the backbone's own loss, where it has only that."""
        if cls.losses:
            return super().negatives_with(loss_type)
        if cls.trains_by_user:
            return None
        return LABELS if cls.input_type == InputType.POINTWISE else PAIRS

    def _set_loss(self, config) -> None:
        pass

    @torch.no_grad()
    def user_representations(self, sequences: dict[int, np.ndarray], batch_size: int = 1024) -> np.ndarray:
        """Embedding of each user; the mean of their purchases' embeddings, of backbones that have none of users.

        Parameters
        ----------
        sequences
            User id to training purchases.

        Returns
        -------
        numpy.ndarray
            ``[len(sequences), d]``, in the order of ``sequences``.
        """
        self.eval()
        users = torch.from_numpy(np.fromiter(sequences, dtype=np.int64)).to(self.device)
        with self.item_tower.catalogue(0):
            return self.representations_of(users, self._purchases[users]).cpu().numpy()

    def representations_of(self, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """As :meth:`user_representations`, with the table in use, ``[n, d]``; ``histories`` tell nothing more."""
        return self._representations(Interaction({self.USER_ID: users}))

    def _histories(self, interaction: Interaction) -> torch.Tensor:
        """Each row's user's training purchases, ``[n, longest]``, padded; none, of users who did not train."""
        return self._purchases[interaction[self.USER_ID]]

    def _padded(self, sequences: dict[int, np.ndarray], batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As :meth:`PerPEFTMixin._padded`, with all purchases of the training."""
        for users in torch.from_numpy(np.fromiter(sequences, dtype=np.int64)).to(self.device).split(batch_size):
            yield users, self._purchases[users]

    def prefixes_of(self, users: torch.Tensor, histories: torch.Tensor) -> tuple[Interaction, torch.Tensor]:
        """As :meth:`PerPEFTMixin.prefixes_of`: every purchase."""
        row_of, place = (histories > 0).nonzero(as_tuple=True)  # [purchases]
        return Interaction({self.USER_ID: users[row_of], self.ITEM_ID: histories[row_of, place]}), row_of

    def _representations(self, interaction: Interaction) -> torch.Tensor:
        """All embeddings of each row's user, side by side, ``[n, d]``; without any, the mean of their purchases'."""
        users = interaction[self.USER_ID]
        tables = [
            module
            for name, module in self.named_children()
            if isinstance(module, nn.Embedding) and name.startswith("user") and module.num_embeddings == self.n_users
        ]
        if tables:
            return torch.cat([table(users) for table in tables], dim=1)
        return self._mean_purchases(self._purchases[users])


def _padded(sequences: dict[int, np.ndarray], n_users: int) -> torch.Tensor:
    """Purchases of every user, oldest first, ``[n_users, longest]``, padded with zeros."""
    padded = torch.zeros(n_users, max(map(len, sequences.values())), dtype=torch.long)
    for user, items in sequences.items():
        padded[user, : len(items)] = torch.from_numpy(items)
    return padded


class GraphMixin(GeneralMixin):
    """For backbones that propagate embeddings over the graph of purchases, and keep them in ``restore_user_e``.

    What was propagated belongs to the items as one group sees them: it is kept for each group's table, until
    :meth:`invalidate`.
    """

    whole_table = True

    _kept: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]

    def holdings(self, dataset) -> dict[str, object]:
        """As :meth:`GeneralMixin.holdings`; nothing has been propagated over them yet."""
        return super().holdings(dataset) | {"_kept": {}}

    def _backbone_scores(self, interaction: Interaction) -> torch.Tensor:
        table = self.item_tower.weight
        _, self.restore_user_e, self.restore_item_e = self._kept.get(id(table), (None, None, None))
        scores = super()._backbone_scores(interaction)
        # the table is kept too, or its id might come again
        self._kept[id(table)] = table, self.restore_user_e, self.restore_item_e
        return scores

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """As :meth:`PerPEFTMixin.predict`."""
        scores = self.full_sort_predict(interaction)  # [n, n_items]
        return scores.view(len(interaction), -1).gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)

    def _representations(self, interaction: Interaction) -> torch.Tensor:
        """Propagated embedding of each row's user, ``[n, d]``."""
        self._backbone_scores(interaction[:1])
        return self.restore_user_e[interaction[self.USER_ID]]

    def invalidate(self) -> None:
        """As :meth:`PerPEFTMixin.invalidate`."""
        super().invalidate()
        self._kept.clear()
