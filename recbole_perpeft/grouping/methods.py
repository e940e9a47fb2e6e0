"""Who belongs to which group: each way of grouping makes groups (``fit``), and finds the group of a user (``assign``).

Both follow the same rule, so a training user whose group was hidden comes back to it. What the rule needs is kept in
buffers of the model, and so in its checkpoints: stage 3 moves the weights that it was made with.
"""

import numpy as np
import torch
from torch import nn

from recbole_perpeft.grouping.clustering import coherence, coherence_of, kmeans_groups, nearest, random_groups, whitened
from recbole_perpeft.grouping.group_rule import GroupRule
from recbole_perpeft.grouping.likeness_groups import LikenessGroups
from recbole_perpeft.utils.weights import in_place


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
    "likeness": LikenessGroups,
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
