"""Recommends what is like a user's purchases in picture and title; nothing is trained."""

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender
from recbole.utils import InputType
from torch import nn

from recbole_perpeft.likeness.similarity import profiles, unit_vectors
from recbole_perpeft.model.purchase_term import CountsPurchases
from recbole_perpeft.model.score_parts import Part
from recbole_perpeft.model.tower_factory import frozen_features, load_encoder


class ContentNeighboursMixin(CountsPurchases):
    """An item's score is the cosine of its content to that of what the user bought, later purchases weighing more.

    With ``purchase_term``, what was bought near these in training is added, by a weight that is found in validation.
    The encoder's features are taken as they are. What else is open is chosen in validation, by
    :class:`~recbole_perpeft.trainer.neighbours_trainer.NeighboursTrainer`.

    Parameters
    ----------
    config : recbole_perpeft.config.Config
        The settings.
    dataset
        The training part; names the items.

    Attributes
    ----------
    candidates : list of tuple
        Modalities (those of the settings together, and each alone), form of the features and decay: all that can be
        chosen.
    encoder : ItemEncoder
        What has read the content.
    """

    settings_from = ("Content", "ContentNeighbours")
    is_trained = False
    input_type = InputType.PAIRWISE  # as RecBole asks to know; there is no loss

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        encoder = load_encoder(config, dataset).to(config["device"])
        object.__setattr__(self, "encoder", encoder)  # no part of the model's state: it does not change
        modalities = encoder.foundation.modalities
        parts = [modalities, *([(modality,) for modality in modalities] if len(modalities) > 1 else [])]
        forms, decays = (_listed(config[key]) for key in ("neighbour_features", "neighbour_decay"))
        self.candidates = [(part, form, decay) for part in parts for form in forms for decay in decays]
        self._chosen = nn.Parameter(torch.zeros(()), requires_grad=False)  # RecBole's trainers ask for a parameter
        self._features = frozen_features(encoder)
        self._count_purchases(config, dataset)
        self._vectors_in_use = (None, None)  # of which modalities and form, and the vectors

    @property
    def chosen(self) -> tuple:
        """Which of :attr:`candidates` is in use."""
        return self.candidates[int(self._chosen)]

    def choose(self, number: int) -> None:
        """Use ``candidates[number]`` from now on."""
        with torch.no_grad():
            self._chosen.fill_(number)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """There is none.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError("Content neighbours are not trained.")

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Scores of all items for each row, ``[n, n_items]``."""
        return self._with_purchases(interaction, lambda rows: self._profiles(rows) @ self._table().T)

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Scores of each row's item, ``[n]``."""
        return self._pairs_with_purchases(
            interaction, lambda rows: (self._profiles(rows) * self._table()[rows[self.ITEM_ID]]).sum(dim=1)
        )

    @property
    def score_terms(self) -> dict[Part, nn.Module | None]:
        """What is added to the cosines."""
        return {Part.PURCHASES: self.purchase_term}

    def _table(self) -> torch.Tensor:
        """Vectors of all items, ``[n_items, r]``."""
        modalities, form, _ = self.chosen
        if self._vectors_in_use[0] != (modalities, form):
            self._vectors_in_use = (modalities, form), self._make_vectors(modalities, form)
        return self._vectors_in_use[1]

    def _make_vectors(self, modalities: tuple[str, ...], form: str) -> torch.Tensor:
        parts = [unit_vectors(self._features[modality], form) for modality in modalities]
        return torch.cat(parts, dim=1).to(self.device) / len(parts) ** 0.5  # the mean of the modalities' cosines

    def _profiles(self, interaction: Interaction) -> torch.Tensor:
        """What each row's user bought, ``[n, r]``."""
        return profiles(self._table(), self._histories(interaction), self.chosen[-1])


class ContentNeighbours(ContentNeighboursMixin, SequentialRecommender):
    """Content neighbours as a sequential recommender: the history is what RecBole gives a row."""

    def _histories(self, interaction: Interaction) -> torch.Tensor:
        return interaction[self.ITEM_SEQ]


class ContentNeighboursGeneral(ContentNeighboursMixin, GeneralRecommender):
    """Content neighbours as a general recommender: the history is what is known of the user."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        vars(self).update(self.holdings(dataset))

    def holdings(self, dataset) -> dict[str, object]:
        """What the model holds of the purchases of ``dataset``, by attribute."""
        return {"_sequences": dataset.training_sequences()}

    def _histories(self, interaction: Interaction) -> torch.Tensor:
        users, row_of = interaction[self.USER_ID].cpu().unique(return_inverse=True)
        none = np.zeros(1, dtype=np.int64)  # padding
        bought = [torch.from_numpy(self._sequences.get(int(user), none)) for user in users]
        return nn.utils.rnn.pad_sequence(bought, batch_first=True)[row_of].to(self.device)


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]
