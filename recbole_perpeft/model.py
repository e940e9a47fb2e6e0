"""PerPEFT<Backbone>: RecBole's recommenders with the multimodal item tower in the place of their item embedding."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.grouping import Grouping, nearest_centroid
from recbole_perpeft.item_tables import ItemTable, item_tables, merge
from recbole_perpeft.kept_outputs import keeping_outputs
from recbole_perpeft.losses import LOSSES, BatchSoftmaxLoss
from recbole_perpeft.make_tower import make_tower
from recbole_perpeft.user_batch import UserBatch

_SCORES_AT_ONCE = 2**18  # of backbones that score pair by pair


class PerPEFTMixin:
    """Puts the item tower into a RecBole backbone: ``class PerPEFTX(PerPEFTMixin, X): backbone_name = "X"``.

    The tower comes in after the backbone's ``__init__``, because RecBole's backbones re-initialise every submodule at
    the end of theirs.

    Parameters
    ----------
    config : recbole_perpeft.config.Config
        The settings.
    dataset : recbole_perpeft.data.SequenceDataset
        The training part; names the items.

    Raises
    ------
    SettingError
        If the backbone has no item table.

    Attributes
    ----------
    backbone_name : str
        RecBole's name of the backbone.
    item_table_names : tuple of str
        What its item tables are called; by default those that have a row for each item.
    whole_table : bool
        Whether the backbone needs a row for every item in a training step: it looks items up by their ids in the
        catalogue, as graphs and histories do. Else it sees the batch's items only.
    reads_others : bool
        Whether, where it needs a row for every item, its loss reads those of items that are not the batch's.
    losses : tuple of str
        What its ``loss_type`` can be; none, if its loss is its own and it knows no other.
    trims_sequences : bool
        Whether it gives the same outputs if all sequences of a batch are cut to its longest.
    user_groups : torch.LongTensor
        Group of every user id, ``[n_users]``; all 0 until users are grouped, then -1 for those who did not train.
    centroids : torch.FloatTensor
        Mean user representation per group, ``[num_groups, d]``; without columns until users are grouped.
    """

    backbone_name: str
    item_table_names: tuple[str, ...] = ()
    whole_table = False
    reads_others = True
    losses: tuple[str, ...] = tuple(LOSSES)
    trims_sequences = False

    def __init__(self, config, dataset):
        super().__init__(_with_known_loss(config), dataset)
        self._set_loss(config)
        self.l2_emb, self.group_mixing = config["l2_emb"], config["group_mixing"]
        merged, columns, biases = merge(item_tables(self, self.item_table_names))
        for name in columns:
            delattr(self, name)
        self.item_tower = make_tower(config, dataset, merged, biases)
        for name in columns:
            setattr(self, name, ItemTable(self.item_tower, columns[name]))
        self.register_buffer("user_groups", torch.zeros(dataset.num(self.USER_ID), dtype=torch.long))
        self.register_buffer("centroids", torch.zeros(config["num_groups"], 0))

    @classmethod
    def negatives_with(cls, loss_type: str | None) -> str | None:
        """The kind of negatives that a training step reads with ``loss_type``; None if it reads none."""
        return LOSSES[loss_type].negatives

    def _set_loss(self, config) -> None:
        self.loss_fct = LOSSES[config["loss_type"]].make()

    # -- training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, batch: UserBatch) -> torch.Tensor:
        """The backbone's loss on the table that the batch asks for, plus ``l2_emb`` times the ID table's norm."""
        tower, users = self.item_tower, ()
        if tower.by_user:
            batch, users = batch.by_user(), (batch.users,)
        if isinstance(getattr(self, "loss_fct", None), BatchSoftmaxLoss):
            self.loss_fct.excluded, self.loss_fct.log_weights = batch.excluded, batch.log_weights
        with (tower.whole if batch.whole else tower.batch)(batch.items, batch.group, *users):
            loss = super().calculate_loss(batch)
        if self.l2_emb:
            loss = loss + self.l2_emb * self.item_tower.id_embedding.weight.norm()
        return loss

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What the optimiser holds: all but the foundation model, of every group."""
        frozen = {id(parameter) for parameter in self.item_tower.encoder.frozen_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in frozen]

    # -- scoring ----------------------------------------------------------------------------------------------------

    def _by_group(self, interaction: Interaction) -> Iterator[tuple[torch.Tensor | slice, Interaction]]:
        """Rows of each group (of each user, if they see items in their own way), with the right catalogue in use."""
        users = interaction[self.USER_ID]
        groups = self._groups_of(interaction)
        if self.item_tower.by_user:
            for row in range(len(users)):
                with self.item_tower.catalogue(int(groups[row]), users[row : row + 1]):
                    yield slice(row, row + 1), interaction[row : row + 1]
            return
        present = groups.unique().tolist()
        for group in present:
            with self.item_tower.catalogue(group):
                if len(present) == 1:
                    yield slice(None), interaction
                else:
                    rows = (groups == group).nonzero().squeeze(1)
                    yield rows, interaction[rows]

    def _groups_of(self, interaction: Interaction) -> torch.Tensor:
        """Group of each row's user, ``[n]``; that of the nearest centroid for users who did not train."""
        groups = self.user_groups[interaction[self.USER_ID]]
        new = groups < 0
        if new.any():
            with self.item_tower.catalogue(0):
                vectors = self._representations(interaction[new])
            groups[new] = nearest_centroid(vectors, self.centroids)
        return groups

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Scores of every item for each row's user, as his group sees them (``group_mixing``), ``[n, n_items]``."""
        return self._scores(interaction, self._score_all)

    def _scores(self, interaction: Interaction, score: Callable[[Interaction], torch.Tensor]) -> torch.Tensor:
        """What ``score`` gives under each row's own group, mixed with its mean over all groups, ``[n, columns]``."""
        if not self.group_mixing or not self.centroids.numel():  # users are not grouped yet
            return _in_order([(rows, score(part)) for rows, part in self._by_group(interaction)], len(interaction))
        own, mixed = self._groups_of(interaction), 0
        for group in range(num_groups := len(self.centroids)):
            share = self.group_mixing / num_groups + (1 - self.group_mixing) * (own == group)  # [n]
            with self.item_tower.catalogue(group):
                mixed = mixed + share[:, None] * score(interaction).view(len(interaction), -1)
        return mixed

    def _score_all(self, interaction: Interaction) -> torch.Tensor:
        """The backbone's scores of all items, ``[n, n_items]``; pair by pair, if it knows no other way."""
        try:
            return super().full_sort_predict(interaction).view(len(interaction), -1)
        except NotImplementedError:
            items = torch.arange(self.n_items, device=self.device)
            scores = []
            for row in range(0, len(interaction), step := max(1, _SCORES_AT_ONCE // self.n_items)):
                part = interaction[row : row + step]
                pairs = part.repeat_interleave(self.n_items)
                pairs.update(Interaction({self.ITEM_ID: items.repeat(len(part))}))
                scores.append(super().predict(pairs).view(len(part), -1))
            return torch.cat(scores)

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Score of each row's item for its user, as in :meth:`full_sort_predict`, ``[n]``."""
        return self._scores(interaction, super().predict).squeeze(1)

    # -- groups -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def user_representations(self, sequences: dict[int, np.ndarray], batch_size: int = 1024) -> np.ndarray:
        """Final sequence representation of each user under group 0's module (paper: what is clustered).

        It is what the backbone's ``forward`` gives on the way to the scores of his training purchases.

        Parameters
        ----------
        sequences
            User id to his training purchases, oldest first.

        Returns
        -------
        numpy.ndarray
            ``[len(sequences), d]``, in the order of ``sequences``; their purchases' mean embedding, of backbones whose
            scores come about without ``forward``.
        """
        self.eval()
        length, users = self.max_seq_length, torch.from_numpy(np.fromiter(sequences, dtype=np.int64))
        padded = torch.zeros(len(sequences), length, dtype=torch.long)
        for row, items in enumerate(sequences.values()):
            last = torch.from_numpy(items[-length:].copy())
            padded[row, : len(last)] = last
        parts = []
        with self.item_tower.catalogue(0):
            for rows in torch.arange(len(padded)).split(batch_size):
                fields = {self.USER_ID: users[rows], self.ITEM_SEQ: padded[rows]}
                fields[self.ITEM_SEQ_LEN] = (padded[rows] > 0).sum(dim=1)
                parts.append(self._representations(Interaction(fields).to(self.device)).cpu())
        return torch.cat(parts).numpy()

    def _representations(self, interaction: Interaction) -> torch.Tensor:
        """What ``forward`` makes of each row's sequence, with the table in use, ``[n, d]``."""
        outputs: list[torch.Tensor] = []
        with keeping_outputs(self, outputs):
            super().full_sort_predict(interaction)
        if not outputs:
            return self._mean_purchases(interaction[self.ITEM_SEQ])
        return torch.cat(outputs).flatten(1)

    def _mean_purchases(self, items: torch.Tensor) -> torch.Tensor:
        """Mean row, in the table in use, of each row of ``items [n, length]``, padding left out, ``[n, width]``."""
        rows = F.embedding(items, self.item_tower.weight)  # [n, length, width], zeros for padding
        return rows.sum(dim=1) / (items > 0).sum(dim=1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def losses_by_group(self, prefixes: Interaction, batch_size: int = 1024) -> torch.Tensor:
        """How well each group's module predicts purchases: cross entropy over all items.

        Parameters
        ----------
        prefixes
            Rows with a target each, ``[n]``.

        Returns
        -------
        torch.FloatTensor
            ``[n, num_groups]``.
        """
        self.eval()
        losses = torch.empty(len(prefixes), len(self.centroids))
        for group in range(len(self.centroids)):
            with self.item_tower.catalogue(group):
                for start in range(0, len(prefixes), batch_size):
                    part = prefixes[start : start + batch_size].to(self.device)
                    with self._reading(part):
                        scores = self._score_all(part)  # [batch, n_items]
                    scores[:, 0] = -torch.inf  # padding
                    losses[start : start + len(part), group] = F.cross_entropy(
                        scores, part[self.ITEM_ID], reduction="none"
                    ).cpu()
        return losses

    def _reading(self, prefixes: Interaction) -> AbstractContextManager:
        """While ``prefixes`` are read; nothing to do for backbones that read each by itself."""
        return nullcontext()

    def personalise(self, users: np.ndarray, grouping: Grouping) -> None:
        """Put ``users`` into their groups and start every group from a copy of the global module and projector."""
        self.user_groups.fill_(-1)
        self.user_groups[torch.from_numpy(users).to(self.user_groups.device)] = torch.from_numpy(grouping.groups).to(
            self.user_groups.device
        )
        self.centroids = torch.from_numpy(grouping.centroids).to(self.centroids.device)
        self.item_tower.personalise(len(self.centroids))

    # -- state ------------------------------------------------------------------------------------------------------

    def state_dict(self, *args, **kwargs) -> dict:
        """What was trained, groups included; the frozen foundation model is left out."""
        state = super().state_dict(*args, **kwargs)
        for key in self._frozen_keys():
            del state[key]
        return state

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        """Load what :meth:`state_dict` gave; the foundation model stays as it was loaded."""
        if "centroids" in state_dict:  # as wide as representations are, once users are grouped
            self.centroids = torch.empty_like(state_dict["centroids"], device=self.centroids.device)
        whole = super().state_dict()
        frozen = {key: whole[key] for key in self._frozen_keys()}
        return super().load_state_dict({**state_dict, **frozen}, strict=strict, assign=assign)

    def _frozen_keys(self) -> set[str]:
        prefix = "item_tower.encoder."
        return {prefix + key for key in self.item_tower.encoder.frozen_state_keys()}


def _with_known_loss(config):
    """``config`` for a backbone that knows BPR and CE only: BCE is called as BPR is, with a positive and a negative."""
    known = copy.copy(config)
    known.final_config_dict = dict(config.final_config_dict)
    if config["loss_type"] == "BCE":
        known["loss_type"] = "BPR"
    return known


def _in_order(parts: list[tuple[torch.Tensor | slice, torch.Tensor]], n: int) -> torch.Tensor:
    """Scores of the parts in the order of their rows, ``[n, columns]``; a single part is not copied."""
    if len(parts) == 1:
        return parts[0][1].view(n, -1)
    first = parts[0][1]
    scores = first.new_empty(n, sum(values.numel() for _, values in parts) // n)
    for rows, values in parts:
        scores[rows] = values.view(-1, scores.shape[1])
    return scores
