"""Rows of items as a group sees them: the equation that the item tower's tables are made by."""

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.model.conditioning import GroupVectors, UserConditioning
from recbole_perpeft.model.id_rows import rows_and_norm
from recbole_perpeft.model.projector import projector
from recbole_perpeft.utils.device_rows import to_device


class ItemRows(nn.Module):
    """Items as a group sees them: ``z(i, g) = w R_g(f(i; P_g)) + e_i`` (paper, section on the item embedding).

    Parameters
    ----------
    id_embedding
        The backbone's own item tables, side by side; row 0 is padding. Rows past the catalogue (mask tokens) have no
        content.
    encoder
        An item encoder: ``encode(items [n], group) -> [n, content_size]``, with a module for each group or one for all.
    num_projectors
        One for each group, or one for all.
    content_weight
        The paper's w.
    projector_size
        Inner width of the projectors.
    conditioning
        What makes z personal besides, if anything does.
    n_items
        Rows of the catalogue, padding included.
    biases
        Columns of ``id_embedding``, the last, to which content adds nothing.
    untrained
        Items that nobody buys in training: they are their content alone.
    """

    def __init__(
        self,
        id_embedding: nn.Embedding,
        encoder: nn.Module,
        num_projectors: int,
        content_weight: float,
        projector_size: int,
        conditioning: GroupVectors | UserConditioning | None,
        n_items: int,
        biases: int,
        untrained: Sequence[int],
    ):
        super().__init__()
        self.id_embedding, self.encoder, self.conditioning = id_embedding, encoder, conditioning
        self.content_weight, self.n_items = content_weight, n_items
        first = projector(encoder.feature_dim, projector_size, id_embedding.embedding_dim, biases)
        self.projectors = nn.ModuleList(copy.deepcopy(first) for _ in range(num_projectors))
        self.register_buffer("_in_training", torch.ones(id_embedding.num_embeddings, 1), persistent=False)
        self.untrained = untrained

    @property
    def untrained(self) -> list[int]:
        """Items that are their content alone, for no training has seen them."""
        return (self._in_training[:, 0] == 0).nonzero().flatten().tolist()

    @untrained.setter
    def untrained(self, items: Sequence[int]) -> None:
        self._in_training.fill_(1)
        self._in_training[torch.as_tensor(items, dtype=torch.long, device=self.device)] = 0

    @property
    def num_embeddings(self) -> int:
        """Rows of the whole table: padding, items, and what comes past them."""
        return self.id_embedding.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """Width of an item's embedding."""
        return self.id_embedding.embedding_dim

    @property
    def id_numbers(self) -> int:
        """Numbers in the ID table, but those of untrained items."""
        return int(self._in_training.sum()) * self.embedding_dim

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.id_embedding.weight.device

    @property
    def by_user(self) -> bool:
        """Whether all users see items in their own way."""
        return isinstance(self.conditioning, UserConditioning) and self.conditioning.by_user

    def group_parameters(self, group: int) -> list[nn.Parameter]:
        """What is trained on the users of one group alone: PEFT module, projector, vectors, those that are its own."""
        own = list(self._projector(group).parameters()) if len(self.projectors) > 1 else []
        if self.encoder.num_groups > 1:
            own = [parameter for _, parameter in self.encoder.adapter_parameters(group)] + own
        return own + (self.conditioning.of_group(group) if isinstance(self.conditioning, GroupVectors) else [])

    def embed(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """``z(i, g)`` of catalogue ids ``items [n]`` (on the CPU), ``[n, embedding_dim]``."""
        return self._embed(items, group, None)[0]

    def _embed(self, items: torch.Tensor, group: int, users: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Items ``[m]``, or as each of ``users [u]`` sees them ``[u * m]``, and the ID table's norm, ``[]``."""
        on_device = to_device(items, self.device)
        ids, norm = rows_and_norm(self.id_embedding.weight, on_device)
        ids = ids * F.embedding(on_device, self._in_training)  # [m, embedding_dim]
        if users is None:
            return self._as_seen(self._content(items, group) + ids, group), norm
        of_content = self._projector(group), self.content_weight, self.features(items, group)
        return self.conditioning.rows(*of_content, ids, users).flatten(0, 1), norm

    def _content(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """``w R_g(f(i; P_g))`` of ``items [n]``, ``[n, embedding_dim]``."""
        return self._project(self.features(items, group), group)

    def features(self, items: torch.Tensor, group: int) -> torch.Tensor:
        return self.encoder.encode(items, self.module_of(group))  # [n, content_size]

    def rows_of(self, features: torch.Tensor, group: int) -> torch.Tensor:
        """Rows ``[n, embedding_dim]`` of items that are their content alone, of the encoder's ``features [n, d]``."""
        return self._as_seen(self._project(features, group), group)

    def module_of(self, group: int) -> int:
        """Which of the encoder's modules sees items for ``group``."""
        return group if self.encoder.num_groups > 1 else 0

    def _projector(self, group: int) -> nn.Sequential:
        return self.projectors[group if len(self.projectors) > 1 else 0]

    def _project(self, features: torch.Tensor, group: int) -> torch.Tensor:
        return self.content_weight * self._projector(group)(features)

    def _as_seen(self, rows: torch.Tensor, group: int) -> torch.Tensor:
        return self.conditioning(rows, group) if isinstance(self.conditioning, GroupVectors) else rows

    def _with_ids(self, content: torch.Tensor, group: int) -> torch.Tensor:
        """``[num_embeddings, embedding_dim]`` of the catalogue's ``content``, zeros in the row of padding."""
        content = F.pad(content, (0, 0, 0, self.num_embeddings - self.n_items))
        return F.pad(self._with_id_rows(content[1:], 1, group), (0, 0, 1, 0))

    def _with_id_rows(self, content: torch.Tensor, first: int, group: int) -> torch.Tensor:
        """Rows from ``first`` on as ``group`` sees them, of their ``content [n, embedding_dim]``."""
        rows = slice(first, first + len(content))
        return self._as_seen(content + self.id_embedding.weight[rows] * self._in_training[rows], group)
