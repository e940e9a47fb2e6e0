"""PerPEFT<Backbone>: RecBole's recommenders with the multimodal item tower in the place of their item embedding."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.loss import BPRLoss
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.conditioning import make_conditioning, modules_of
from recbole_perpeft.content import prepare_content
from recbole_perpeft.encoder import build_item_encoder, compute_dtype, load_foundation
from recbole_perpeft.errors import SettingError
from recbole_perpeft.grouping import Grouping
from recbole_perpeft.item_tower import MultimodalItemEmbedding
from recbole_perpeft.losses import BatchSoftmaxLoss, BCELoss
from recbole_perpeft.user_batch import UserBatch

_LOSSES = {"BCE": BCELoss, "BPR": BPRLoss, "CE": BatchSoftmaxLoss}


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
        If the backbone has other item tables than ``item_embedding``.

    Attributes
    ----------
    backbone_name : str
        RecBole's name of the backbone.
    trims_sequences : bool
        Whether the backbone gives the same outputs if all sequences of a batch are cut to its longest.
    user_groups : torch.LongTensor
        Group of every user id, ``[n_users]``; all 0 until users are grouped.
    centroids : torch.FloatTensor
        Mean user representation per group, ``[num_groups, hidden_size]``.
    """

    backbone_name: str
    trims_sequences = False

    def __init__(self, config, dataset):
        super().__init__(_with_known_loss(config), dataset)
        _check_tables(self, config)
        self.loss_fct = _LOSSES[config["loss_type"]]()
        self.l2_emb = config["l2_emb"]
        self.item_embedding = self._make_tower(config, dataset)
        n_users = dataset.num(self.USER_ID)
        self.register_buffer("user_groups", torch.zeros(n_users, dtype=torch.long))
        self.register_buffer("centroids", torch.zeros(config["num_groups"], self.item_embedding.embedding_dim))

    def _make_tower(self, config, dataset) -> MultimodalItemEmbedding:
        folder = Path(config["data_path"])
        foundation = load_foundation(
            encoder=config["encoder"] if not (config["image_encoder"] or config["text_encoder"]) else None,
            image_encoder=config["image_encoder"],
            text_encoder=config["text_encoder"],
            modalities=tuple(config["modalities"]),
            image_pooling=config["image_pooling"],
            text_pooling=config["text_pooling"],
            max_text_length=config["max_text_length"],
            search_folders=(folder,),
        )
        content = prepare_content(
            dataset.field2id_token[self.ITEM_ID],
            folder,
            item_file=folder / f"{config['dataset']}.item",
            item_id_field=self.ITEM_ID,
            modalities=foundation.modalities,
            text_fields=config["text_fields"],
            text_template=config["text_template"],
            image_field=config["image_field"],
            image_dir=config["image_dir"],
            missing_content=config["missing_content"],
            image_processor=foundation.image_processor,
            tokenizer=foundation.tokenizer,
            max_text_length=foundation.max_text_length,
            fixed_text_length=foundation.fixed_text_length,
            cache_dir=config["content_cache"],
            workers=config["content_workers"],
            show_progress=config["show_progress"],
            encoding=config["encoding"] or "utf-8",
        )
        num_modules, num_projectors = modules_of(config["personalised_by"], config["num_groups"])
        encoder = build_item_encoder(
            foundation,
            content,
            config["peft_type"],
            config["peft_config"],
            num_modules,
            peft_layers=config["peft_layers"],
            dtype=compute_dtype(config["precision"], torch.device(config["device"])),
            show_progress=config["show_progress"],
        )
        sizes = dataset.num(self.USER_ID), self.item_embedding.embedding_dim, config["projector_size"]
        return MultimodalItemEmbedding(
            self.item_embedding,
            encoder,
            num_projectors,
            config["content_weight"],
            config["projector_size"],
            make_conditioning(config["personalised_by"], config["num_groups"], *sizes),
            config["show_progress"],
        )

    # -- training ---------------------------------------------------------------------------------------------------

    def calculate_loss(self, batch: UserBatch) -> torch.Tensor:
        """The backbone's loss on the table that the batch asks for, plus ``l2_emb`` times the ID table's norm."""
        tower, users = self.item_embedding, ()
        if tower.by_user:
            batch, users = batch.by_user(), (batch.users,)
        if isinstance(self.loss_fct, BatchSoftmaxLoss):
            self.loss_fct.excluded = batch.excluded
        with (tower.whole if batch.whole else tower.batch)(batch.items, batch.group, *users):
            loss = super().calculate_loss(batch)
        if self.l2_emb:
            loss = loss + self.l2_emb * self.item_embedding.id_embedding.weight.norm()
        return loss

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What the optimiser holds: all but the foundation model, of every group."""
        frozen = {id(parameter) for parameter in self.item_embedding.encoder.frozen_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in frozen]

    # -- scoring ----------------------------------------------------------------------------------------------------

    def _by_group(self, interaction: Interaction) -> Iterator[tuple[torch.Tensor | slice, Interaction]]:
        """Rows of each group (of each user, if they see items in their own way), with the right catalogue in use."""
        users = interaction[self.USER_ID]
        groups = self.user_groups[users]
        if self.item_embedding.by_user:
            for row in range(len(users)):
                with self.item_embedding.catalogue(int(groups[row]), users[row : row + 1]):
                    yield slice(row, row + 1), interaction[row : row + 1]
            return
        present = groups.unique().tolist()
        for group in present:
            with self.item_embedding.catalogue(group):
                if len(present) == 1:
                    yield slice(None), interaction
                else:
                    rows = (groups == group).nonzero().squeeze(1)
                    yield rows, interaction[rows]

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Scores of every item for each row's user under his own group, ``[n, n_items]``."""
        parts = [
            (rows, super(PerPEFTMixin, self).full_sort_predict(part)) for rows, part in self._by_group(interaction)
        ]
        return _in_order(parts, len(interaction))

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Score of each row's item for its user under his own group, ``[n]``."""
        parts = [(rows, super(PerPEFTMixin, self).predict(part)) for rows, part in self._by_group(interaction)]
        return _in_order(parts, len(interaction)).squeeze(1)

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
            ``[len(sequences), hidden_size]``, in the order of ``sequences``.
        """
        self.eval()
        length, users = self.max_seq_length, torch.from_numpy(np.fromiter(sequences, dtype=np.int64))
        padded = torch.zeros(len(sequences), length, dtype=torch.long)
        for row, items in enumerate(sequences.values()):
            last = torch.from_numpy(items[-length:].copy())
            padded[row, : len(last)] = last
        outputs: list[torch.Tensor] = []
        with self.item_embedding.catalogue(0), self._keeping_outputs(outputs):
            for rows in torch.arange(len(padded)).split(batch_size):
                fields = {self.USER_ID: users[rows], self.ITEM_SEQ: padded[rows]}
                fields[self.ITEM_SEQ_LEN] = (padded[rows] > 0).sum(dim=1)
                super().full_sort_predict(Interaction(fields).to(self.device))
        return torch.cat(outputs).numpy()

    @contextmanager
    def _keeping_outputs(self, outputs: list[torch.Tensor]) -> Iterator[None]:
        """Collect what ``forward`` gives, ``[n, hidden_size]`` each, on the CPU."""
        forward = self.forward

        def kept(*args, **kwargs) -> torch.Tensor:
            output = forward(*args, **kwargs)
            outputs.append(output.flatten(1).cpu())
            return output

        self.forward = kept
        try:
            yield
        finally:
            del self.forward

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
            with self.item_embedding.catalogue(group):
                for start in range(0, len(prefixes), batch_size):
                    part = prefixes[start : start + batch_size].to(self.device)
                    with self._reading(part):
                        scores = super().full_sort_predict(part).view(len(part), -1)  # [batch, n_items]
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
        self.user_groups[torch.from_numpy(users).to(self.user_groups.device)] = torch.from_numpy(grouping.groups).to(
            self.user_groups.device
        )
        self.centroids.copy_(torch.from_numpy(grouping.centroids))
        self.item_embedding.personalise(len(self.centroids))

    # -- state ------------------------------------------------------------------------------------------------------

    def state_dict(self, *args, **kwargs) -> dict:
        """What was trained, groups included; the frozen foundation model is left out."""
        state = super().state_dict(*args, **kwargs)
        for key in self._frozen_keys():
            del state[key]
        return state

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        """Load what :meth:`state_dict` gave; the foundation model stays as it was loaded."""
        whole = super().state_dict()
        frozen = {key: whole[key] for key in self._frozen_keys()}
        return super().load_state_dict({**state_dict, **frozen}, strict=strict, assign=assign)

    def _frozen_keys(self) -> set[str]:
        prefix = "item_embedding.encoder."
        return {prefix + key for key in self.item_embedding.encoder.frozen_state_keys()}


def _check_tables(model, config) -> None:
    """Refuse a backbone with item tables that a batch's rows would be looked up in by mistake."""
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and module.num_embeddings == model.n_items and "user" not in name
    ]
    if found != ["item_embedding"]:
        tables = f"its item tables are {', '.join(found)}" if found else "it has no item table"
        raise SettingError(
            f"model: {config['model']} cannot be built on {model.backbone_name}: {tables}, and the item tower stands "
            "for one called item_embedding. Choose another backbone."
        )


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
