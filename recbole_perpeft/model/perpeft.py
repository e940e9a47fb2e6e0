"""PerPEFT<Backbone>: RecBole's recommenders with the multimodal item tower in the place of their item embedding."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import nn

from recbole_perpeft import encoder as encoders
from recbole_perpeft.data.user_batch import UserBatch
from recbole_perpeft.model.backbone import fuse_gelu, with_known_loss
from recbole_perpeft.model.content_loss import LearnsContent
from recbole_perpeft.model.grouped_users import GroupedUsersMixin
from recbole_perpeft.model.id_rows import norm_weight
from recbole_perpeft.model.item_tables import ItemTable, item_tables, merge
from recbole_perpeft.model.loss import LOSSES
from recbole_perpeft.model.pairwise import scores_of_pairs
from recbole_perpeft.model.purchase_term import CountsPurchases
from recbole_perpeft.model.score_parts import Part
from recbole_perpeft.model.tower_factory import make_tower
from recbole_perpeft.model.trained_state import save_trained_only
from recbole_perpeft.utils import processes


class PerPEFTMixin(LearnsContent, CountsPurchases, GroupedUsersMixin):
    """Puts the item tower into a RecBole backbone: ``class PerPEFTX(PerPEFTMixin, X): backbone_name = "X"``.

    The tower comes in after the backbone's ``__init__``, because RecBole's backbones re-initialise every submodule at
    the end of theirs.

    Parameters
    ----------
    config : recbole_perpeft.config.Config
        The settings.
    dataset : recbole_perpeft.data.preparation.SequenceDataset
        The training part; names the items.

    Raises
    ------
    SettingError
        If the backbone has no item table.

    Attributes
    ----------
    backbone_name : str
        RecBole's name of the backbone.
    settings_from : tuple of str
        The YAML files of ``properties/model`` with what it reads beside the backbone's settings and those of its name.
    item_table_names : tuple of str
        What its item tables are called; by default those that have a row for each item.
    whole_table : bool
        Whether the backbone needs a row for every item in a training step: it looks items up by their ids in the
        catalogue, as graphs and histories do. Else it sees the batch's items only.
    losses : tuple of str or None
        What its ``loss_type`` can be; none, if its loss is its own and it knows no other; None: any of
        :data:`~recbole_perpeft.model.loss.LOSSES`.
    loss_is_mean : bool
        Whether a batch's loss is the mean of its rows' losses, beside terms of the weights alone: several processes
        then have some of its users each.
    trims_sequences : bool
        Whether it gives the same outputs if all sequences of a batch are cut to its longest.
    shares_passes : bool
        Whether it reads all beginnings of a sequence in one pass over it.
    weights_version : int
        How often :meth:`invalidate` was called.
    """

    backbone_name: str
    settings_from: tuple[str, ...] = ("Content", "PerPEFT")
    item_table_names: tuple[str, ...] = ()
    whole_table = False
    losses: tuple[str, ...] | None = None
    loss_is_mean = False
    trims_sequences = False
    shares_passes = False
    weights_version = 0

    def __init__(self, config, dataset):
        super().__init__(with_known_loss(config), dataset)
        fuse_gelu(self)
        self._set_loss(config)
        self._pairs_at_once = config["eval_batch_size"]
        merged, columns, biases = merge(item_tables(self, self.item_table_names))
        for name in columns:
            delattr(self, name)
        self.item_tower = make_tower(config, dataset, merged, biases)
        for name in columns:
            setattr(self, name, ItemTable(self.item_tower, columns[name]))
        own = config["l2_emb"]
        self.l2_emb = norm_weight(self.item_tower.id_numbers, len(dataset.inter_feat)) if own is None else own
        self._learn_content(config, dataset.num(self.USER_ID))
        self._count_purchases(config, dataset)
        self._have_groups(config, dataset.num(self.USER_ID))
        save_trained_only(self)
        self.register_load_state_dict_post_hook(_other_weights)

    @classmethod
    def backbone(cls, config, dataset) -> nn.Module:
        """The backbone by itself, with its own item tables; for the parameters of the class."""
        bases = (base for base in cls.__mro__ if not issubclass(base, GroupedUsersMixin))
        own = next(base for base in bases if issubclass(base, AbstractRecommender))
        return own(with_known_loss(config), dataset)

    @staticmethod
    def check_settings(settings: Mapping) -> None:
        """Refuse settings that only what is built of them knows to be impossible, before any data are read.

        Raises
        ------
        EncoderError
            Names the setting and the cure.
        """
        encoders.check_peft(settings["peft_type"], settings["peft_config"])
        encoders.check_given(settings["item_features"], settings["peft_type"], settings["modalities"])

    @classmethod
    def negatives_with(cls, loss_type: str | None) -> str | None:
        """The kind of negatives that a training step reads with ``loss_type``; None if it reads none."""
        return LOSSES[loss_type].negatives

    @classmethod
    def possible_losses(cls) -> tuple[str, ...]:
        """What its ``loss_type`` can be."""
        return tuple(LOSSES) if cls.losses is None else cls.losses

    def _set_loss(self, config) -> None:
        if not hasattr(self, "loss_fct"):  # TransRec calls its loss by another name
            return
        del self.loss_fct  # the backbone's own: each step puts in ours, with what it needs of the batch
        self.registered_loss = LOSSES[config["loss_type"]]
        self.loss_module = self.registered_loss.make()

    @contextmanager
    def _loss_of(self, batch: UserBatch) -> Iterator[None]:
        """For a step, the loss that the backbone calls; nothing to do where it has its own."""
        if not hasattr(self, "loss_module"):
            yield
            return
        self.__dict__["loss_fct"] = self.registered_loss.of(self.loss_module, batch)
        try:
            yield
        finally:
            del self.__dict__["loss_fct"]

    # -- training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, batch: UserBatch) -> torch.Tensor:
        """The backbone's loss on the table that the batch asks for, that of content where it is learnt from, and the
        ID table's norm times ``l2_emb``.
        """
        tower, users, of_content = self.item_tower, (), self._content_loss(batch)
        if tower.by_user:
            batch, users = batch.by_user(), (batch.users,)
        table = (tower.whole if batch.whole else tower.batch)(batch.items, batch.group, *users)
        with table as id_norm, self._loss_of(batch):
            loss = super().calculate_loss(batch) + of_content
        return loss + self.l2_emb * id_norm if self.l2_emb else loss

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What the optimiser holds: all but the foundation model, of every group."""
        frozen = {id(parameter) for parameter in self.item_tower.encoder.frozen_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in frozen]

    # -- what is kept between evaluations ---------------------------------------------------------------------------

    def invalidate(self) -> None:
        """Say that weights have moved: what was computed with them and kept is dropped.

        ``train()`` and ``eval()`` drop nothing. The trainer's steps call this, and a state that is loaded does; whoever
        moves weights in another way, as with an optimiser of their own, calls it before the next evaluation.
        """
        self.weights_version += 1
        self.item_tower.invalidate()

    def forget(self) -> None:
        """As :meth:`invalidate`, of weights that others have taken the place of: training steps start afresh too."""
        self.invalidate()
        self.item_tower.forget()

    # -- several processes ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def make_states(self) -> None:
        """Have what is computed of the items once ever, for which no other process is to wait within a step."""
        self.item_tower.encoder.encode(torch.arange(1, 2), 0)

    def encode_catalogues(self) -> None:
        """Of several processes, have the item tables of all groups, encoded by all: then each can score by itself."""
        if processes.count() > 1:
            self.eval()  # an epoch may just have ended
            for group in range(self.num_groups) if self.is_grouped else [0]:
                with self.item_tower.catalogue(group):
                    pass

    def take_from_first(self) -> None:
        """Of several processes, have what the first one's model has trained and found."""
        processes.take_from_first(list(self.state_dict().values()))

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
        present = sorted(set(groups.tolist()))
        for group in present:
            with self.item_tower.catalogue(group):
                if len(present) == 1:
                    yield slice(None), interaction
                else:
                    rows = (groups == group).nonzero().squeeze(1)
                    yield rows, interaction[rows]

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Scores of every item for each row's user, as their group sees them (``soft_groups``), ``[n, n_items]``."""
        return self._with_purchases(interaction, partial(self._scores, score=self._score_all))

    @property
    def score_terms(self) -> dict[Part, nn.Module | None]:
        """What is added to the backbone's scores, in the order in which their weights are found."""
        return {Part.CONTENT: self.item_tower.content_term, Part.PURCHASES: self.purchase_term}

    def _scores(self, interaction: Interaction, score: Callable[[Interaction], torch.Tensor]) -> torch.Tensor:
        """What ``score`` gives under each row's own group, mixed with that of others where it is, ``[n, columns]``."""
        if self.only_group is not None:
            with self.item_tower.catalogue(self.only_group):
                return score(interaction).view(len(interaction), -1)
        if self.is_soft:
            return self._mixed_scores(interaction, score)
        return _in_order([(rows, score(part)) for rows, part in self._by_group(interaction)], len(interaction))

    def _mixed_scores(self, interaction: Interaction, score: Callable[[Interaction], torch.Tensor]) -> torch.Tensor:
        """As :meth:`_scores`, of all groups that have a share of a row's scores."""
        shares, mixed = self.shares_of_groups(interaction), None  # [n, num_groups]
        for group in shares.sum(dim=0).nonzero().flatten().tolist():
            rows = shares[:, group].nonzero().squeeze(1)
            with self.item_tower.catalogue(group):
                own = score(interaction if len(rows) == len(interaction) else interaction[rows]).view(len(rows), -1)
            if mixed is None:
                mixed = own.new_zeros(len(interaction), own.shape[1])
            mixed.index_add_(0, rows, shares[rows, group, None] * own)
        return mixed

    def _score_all(self, interaction: Interaction) -> torch.Tensor:
        """The backbone's scores of all items with the content term, or one of the two, ``[n, n_items]``."""
        term = self.item_tower.content_term
        if self.part is Part.CONTENT:
            return term.of_all(self._histories(interaction))
        if self.part is Part.BACKBONE or term is None or not term.is_used:
            return self._backbone_scores(interaction)
        return term.add_to(self._backbone_scores(interaction), self._histories(interaction))

    def _backbone_scores(self, interaction: Interaction) -> torch.Tensor:
        """The backbone's scores of all items, ``[n, n_items]``; pair by pair, if it knows no other way."""
        try:
            return super().full_sort_predict(interaction).view(len(interaction), -1)
        except NotImplementedError:
            items = Interaction({self.ITEM_ID: torch.arange(self.n_items, device=self.device)})
            return scores_of_pairs(super().predict, interaction, items, self._pairs_at_once)

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Score of each row's item for its user, as in :meth:`full_sort_predict`, ``[n]``."""
        return self._pairs_with_purchases(interaction, lambda rows: self._scores(rows, self._score_pairs).squeeze(1))

    def _score_pairs(self, interaction: Interaction) -> torch.Tensor:
        """As :meth:`_score_all`, of each row's item, ``[n]``."""
        term = self.item_tower.content_term
        if self.part is not Part.CONTENT and (self.part is Part.BACKBONE or term is None or not term.is_used):
            return super().predict(interaction)
        content = term.of_pairs(self._histories(interaction), interaction[self.ITEM_ID])
        if self.part is Part.CONTENT:
            return content
        return content * term.weight + super().predict(interaction).view(len(interaction))


def _other_weights(model: PerPEFTMixin, incompatible_keys: object) -> None:
    """After a state is loaded."""
    model.forget()


def _in_order(parts: list[tuple[torch.Tensor | slice, torch.Tensor]], n: int) -> torch.Tensor:
    """Scores of the parts in the order of their rows, ``[n, columns]``; a single part is not copied."""
    if len(parts) == 1:
        return parts[0][1].view(n, -1)
    first = parts[0][1]
    scores = first.new_empty(n, sum(values.numel() for _, values in parts) // n)
    for rows, values in parts:
        scores[rows] = values.view(-1, scores.shape[1])
    return scores
