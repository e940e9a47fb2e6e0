"""What RecBole's general recommenders need beside the item tower: user vectors, propagated tables."""

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_perpeft.model import PerPEFTMixin


class GeneralMixin(PerPEFTMixin):
    """As :class:`~recbole_perpeft.model.PerPEFTMixin`, for general recommenders; the loss is the backbone's own.

    Attributes
    ----------
    trains_by_user : bool
        Whether the backbone's loss takes users with all their purchases, instead of purchases one by one.
    """

    trains_by_user = False

    def _set_loss(self, config) -> None:
        pass

    @torch.no_grad()
    def user_representations(self, sequences: dict[int, np.ndarray], batch_size: int = 1024) -> np.ndarray:
        """Embedding of each user; the mean of his purchases' embeddings, of backbones that have none of users.

        Parameters
        ----------
        sequences
            User id to his training purchases.

        Returns
        -------
        numpy.ndarray
            ``[len(sequences), d]``, in the order of ``sequences``.
        """
        self.eval()
        users = torch.from_numpy(np.fromiter(sequences, dtype=np.int64)).to(self.device)
        with self.item_tower.catalogue(0):
            vectors = self._user_vectors(users)
        return self._mean_purchases(sequences) if vectors is None else vectors.cpu().numpy()

    def _user_vectors(self, users: torch.Tensor) -> torch.Tensor | None:
        """All embeddings of ``users [n]``, side by side, ``[n, d]``; None if there are none."""
        tables = [
            module
            for name, module in self.named_children()
            if isinstance(module, nn.Embedding) and name.startswith("user") and module.num_embeddings == self.n_users
        ]
        return torch.cat([table(users) for table in tables], dim=1) if tables else None


class GraphMixin(GeneralMixin):
    """For backbones that propagate embeddings over the graph of purchases, and keep them in ``restore_user_e``.

    What was propagated belongs to the items as one group sees them: it is kept for each group's table, and dropped when
    weights may change.
    """

    whole_table = True

    def __init__(self, config, dataset):
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        super().__init__(config, dataset)

    def _score_all(self, interaction: Interaction) -> torch.Tensor:
        table = self.item_tower.weight
        _, self.restore_user_e, self.restore_item_e = self._kept.get(id(table), (None, None, None))
        scores = super()._score_all(interaction)
        self._kept[id(table)] = table, self.restore_user_e, self.restore_item_e  # the table too, or its id may come again
        return scores

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """As :meth:`PerPEFTMixin.predict`."""
        scores = self.full_sort_predict(interaction)  # [n, n_items]
        return scores.view(len(interaction), -1).gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)

    def _user_vectors(self, users: torch.Tensor) -> torch.Tensor:
        """Propagated embeddings of ``users [n]``, ``[n, d]``."""
        self._score_all(Interaction({self.USER_ID: users[:1]}))
        return self.restore_user_e[users]

    def train(self, mode: bool = True) -> "GraphMixin":
        """Set the mode; training changes weights."""
        self._kept.clear()
        return super().train(mode)

    def load_state_dict(self, *args, **kwargs):
        """As :meth:`PerPEFTMixin.load_state_dict`."""
        self._kept.clear()
        return super().load_state_dict(*args, **kwargs)
