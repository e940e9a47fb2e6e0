"""Who belongs to which group: each way of grouping makes groups (``fit``), and finds the group of a user (``assign``).

Both follow the same rule, so a training user whose group was hidden comes back to it. What the rule needs is kept in
buffers of the model, and so in its checkpoints: stage 3 moves the weights that it was made with.
"""

from abc import abstractmethod

import numpy as np
import torch
from torch import nn

from recbole_perpeft.grouping.clustering import coherence, coherence_of, kmeans_groups, nearest, random_groups, whitened
from recbole_perpeft.utils.weights import in_place


class GroupRule(nn.Module):
    """A way of grouping users.

    Parameters
    ----------
    num_groups
        Number of groups.
    seed
        Decides what is left to chance.

    Attributes
    ----------
    of_items : str or None
        The buffer with a row for each item, where there is one. Zeros in a row mean that the item came after the groups
        were made.
    """

    of_items: str | None = None

    def __init__(self, num_groups: int, seed: int):
        super().__init__()
        self.num_groups, self.seed = num_groups, seed

    @staticmethod
    def name_of(parameter: str) -> str:
        """The buffer that holds a parameter of the backbone as it was when groups were made, of rules that keep any."""
        return "backbone/" + parameter.replace(".", "/")  # names of buffers have no dots

    def known(self, histories: torch.Tensor) -> torch.Tensor:
        """``histories [n, length]``, padded with zeros at the end, without items that came after the groups."""
        rows = self._buffers.get(self.of_items)
        if rows is None:
            return histories
        kept = histories * rows.any(dim=1)[histories]
        return kept.gather(1, (kept == 0).int().argsort(dim=1, stable=True))

    @abstractmethod
    def fit(self, model: nn.Module, sequences: dict[int, np.ndarray]) -> np.ndarray:
        """Make groups of the users who train, and keep what :meth:`assign` needs.

        Parameters
        ----------
        model
            A PerPEFT model at the end of stage 1, with the catalogue of its global module in use.
        sequences
            User id to training purchases, oldest first.

        Returns
        -------
        numpy.ndarray
            Group of each user, ``[n]``, in the order of ``sequences``. A group may be empty.
        """

    @abstractmethod
    def assign(self, model: nn.Module, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """The group of each of some users, by the rule of the groups that were made.

        Parameters
        ----------
        model
            The PerPEFT model, as it is now.
        users
            User ids ``[n]``.
        histories
            Their purchases, oldest first, ``[n, length]``, padded with zeros at the end; nobody's is empty.

        Returns
        -------
        torch.LongTensor
            ``[n]``.
        """

    def _keep(self, **values: np.ndarray | torch.Tensor) -> None:
        for name, value in values.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32))

    def shape_as(self, state: dict[str, torch.Tensor]) -> None:
        """Have the buffers that ``state`` has, of any content: none, of a model whose users were not grouped yet."""
        self._buffers.clear()
        for name, value in state.items():
            self.register_buffer(name, torch.empty_like(value))


class RandomGroups(GroupRule):
    """Groups of equal size by chance.

    What users buy says nothing about their group, so that of a new user is drawn with the seed and the user's id.
    """

    def fit(self, model: nn.Module, sequences: dict[int, np.ndarray]) -> np.ndarray:
        """As :meth:`GroupRule.fit`."""
        return random_groups(len(sequences), self.num_groups, self.seed)

    def assign(self, model: nn.Module, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """As :meth:`GroupRule.assign`."""
        drawn = [np.random.default_rng([self.seed, user]).integers(self.num_groups) for user in users.tolist()]
        return torch.tensor(drawn, device=users.device)


class CoherenceGroups(GroupRule):
    """K-means on what the purchases of each user have in common, in the stage-1 model's item features."""

    of_items = "white"

    def fit(self, model: nn.Module, sequences: dict[int, np.ndarray]) -> np.ndarray:
        """As :meth:`GroupRule.fit`."""
        white = whitened(model.item_tower.content_features(0))  # [n_items, components]
        groups, centres = kmeans_groups(coherence(white, list(sequences.values())), self.num_groups, self.seed)
        self._keep(white=white, centres=centres)
        self.to(model.device)
        return groups

    def assign(self, model: nn.Module, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """As :meth:`GroupRule.assign`."""
        return nearest(coherence_of(self.white, histories), self.centres)


class KMeansGroups(GroupRule):
    """K-means on the users' final sequence representations under the stage-1 model (the paper's).

    Stage 3 moves the backbone, so representations of that time need its weights and item table of that time, of which a
    copy is kept: about as much as the id table and the backbone, without the encoder.
    """

    of_items = "table"

    def fit(self, model: nn.Module, sequences: dict[int, np.ndarray]) -> np.ndarray:
        """As :meth:`GroupRule.fit`."""
        groups, centres = kmeans_groups(model.user_representations(sequences), self.num_groups, self.seed)
        weights = {self.name_of(name): value.detach().clone() for name, value in model.backbone_parameters().items()}
        self._keep(centres=centres, table=model.item_tower.weight.clone(), **weights)
        self.to(model.device)
        return groups

    def assign(self, model: nn.Module, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """As :meth:`GroupRule.assign`."""
        own = model.backbone_parameters()
        values = [getattr(self, self.name_of(name)) for name in own]
        with in_place([parameter.data for parameter in own.values()], values), model.item_tower._using(self.table):
            points = model.representations_of(users, histories)
        return nearest(points, self.centres)


GROUPINGS: dict[str, type[GroupRule]] = {
    "kmeans": KMeansGroups,
    "coherence": CoherenceGroups,
    "random": RandomGroups,
}


def best_predicted(model: nn.Module, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
    """The rule after ``regroup_epochs``: the group whose module predicts each user's purchases best.

    By the mean cross entropy of all purchases after the first (of general models: of all), as in
    :func:`~recbole_perpeft.grouping.assignment.best_groups`. Arguments and result are those of
    :meth:`GroupRule.assign`; users of whom nothing is there to predict get group -1.
    """
    sums, numbers = summed_losses(model, users, histories)
    return sums.argmin(dim=1).masked_fill(numbers == 0, -1).to(users.device)


def summed_losses(model: nn.Module, users: torch.Tensor, histories: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of the purchases of each user under each group's module.

    Returns
    -------
    tuple
        Their sums ``[n, num_groups]`` and of how many purchases they are ``[n]``, on the CPU.
    """
    prefixes, row_of = model.prefixes_of(users, histories)
    losses, row_of = model.losses_by_group(prefixes), row_of.cpu()  # [prefixes, num_groups]; a GPU's sums vary
    sums = losses.new_zeros(len(users), losses.shape[1]).index_add_(0, row_of, losses)
    return sums, torch.bincount(row_of, minlength=len(users))
