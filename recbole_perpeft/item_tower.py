"""The item tower: what stands in the place of a backbone's item embedding (paper, section on the item embedding)."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from recbole_perpeft.errors import TrainingError

_CHUNKS_WORTH_A_BAR = 8


def projector(content_size: int, inner_size: int, hidden_size: int) -> nn.Sequential:
    """The paper's R_g: Linear, LayerNorm, ReLU, Linear, LayerNorm; ``[n, content_size] -> [n, hidden_size]``."""
    return nn.Sequential(
        nn.Linear(content_size, inner_size),
        nn.LayerNorm(inner_size),
        nn.ReLU(),
        nn.Linear(inner_size, hidden_size),
        nn.LayerNorm(hidden_size),
    )


class MultimodalItemEmbedding(nn.Module):
    """Items as a group sees them: ``z(i, g) = w R_g(f(i; P_g)) + e_i``; a drop-in for ``nn.Embedding``.

    The table that ``forward`` and ``weight`` read is set by :meth:`batch` (the distinct items of one training batch,
    with gradient) or :meth:`catalogue` (all items, without). Outside of both there is none, so that no training step
    encodes the whole catalogue by accident.

    Parameters
    ----------
    id_embedding
        The backbone's own item embedding; row 0 is padding.
    encoder
        An item encoder: ``encode(items [n], group) -> [n, content_size]``.
    num_groups
        Projectors to make.
    content_weight
        The paper's w.
    projector_size
        Inner width of the projectors.
    show_progress
        Whether encoding a catalogue shows a bar.
    """

    def __init__(
        self,
        id_embedding: nn.Embedding,
        encoder: nn.Module,
        num_groups: int,
        content_weight: float,
        projector_size: int,
        show_progress: bool = False,
    ):
        super().__init__()
        self.id_embedding, self.encoder = id_embedding, encoder
        self.content_weight, self.show_progress = content_weight, show_progress
        first = projector(encoder.feature_dim, projector_size, id_embedding.embedding_dim)
        self.projectors = nn.ModuleList(copy.deepcopy(first) for _ in range(num_groups))
        self._table: torch.Tensor | None = None
        self._catalogues: dict[int, torch.Tensor] = {}

    @property
    def num_embeddings(self) -> int:
        """Rows of the catalogue, padding included."""
        return self.id_embedding.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """Width of an item's embedding."""
        return self.id_embedding.embedding_dim

    def copy_group(self, source: int) -> None:
        """Give every group a copy of the PEFT module and projector of group ``source``."""
        self.encoder.copy_adapter(source)
        state = self.projectors[source].state_dict()
        for target in self.projectors:
            target.load_state_dict(state)

    def group_parameters(self, group: int) -> list[nn.Parameter]:
        """The PEFT module's and the projector's parameters of one group."""
        adapter = [parameter for _, parameter in self.encoder.adapter_parameters(group)]
        return adapter + list(self.projectors[group].parameters())

    def embed(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """``z(i, g)`` of catalogue ids ``items [n]``, ``[n, embedding_dim]``."""
        content = self.projectors[group](self.encoder.encode(items, group))  # [n, embedding_dim]
        return self.content_weight * content + self.id_embedding(items)

    @contextmanager
    def batch(self, items: torch.Tensor, group: int) -> Iterator[None]:
        """Let ids be rows of the table of ``items [m]``: row ``i`` is ``items[i - 1]``, row 0 is padding (zeros)."""
        rows = self.embed(items, group)  # [m, embedding_dim]
        with self._using(F.pad(rows, (0, 0, 1, 0))):  # [m + 1, embedding_dim]
            yield

    @contextmanager
    def catalogue(self, group: int) -> Iterator[None]:
        """Let ids be catalogue ids, as ``group`` sees them; without gradient.

        A group's table is computed once and kept until the weights may change: on ``train()`` or a loaded state.
        """
        if group not in self._catalogues:
            self._catalogues[group] = self._whole_table(group)
        with self._using(self._catalogues[group]):
            yield

    @contextmanager
    def _using(self, table: torch.Tensor) -> Iterator[None]:
        before, self._table = self._table, table
        try:
            yield
        finally:
            self._table = before

    @torch.no_grad()
    def _whole_table(self, group: int) -> torch.Tensor:
        ids = torch.arange(1, self.num_embeddings, device=self.id_embedding.weight.device)
        chunks = ids.split(self.encoder.encode_batch_size)
        hidden = not self.show_progress or len(chunks) < _CHUNKS_WORTH_A_BAR
        bar = tqdm(chunks, desc=f"Encode items, group {group}", ncols=100, leave=False, disable=hidden)
        rows = torch.cat([self.embed(chunk, group) for chunk in bar])
        return F.pad(rows, (0, 0, 1, 0))  # [n_items, embedding_dim]

    def forget(self) -> None:
        """Drop the kept tables; the next :meth:`catalogue` computes anew."""
        self._catalogues.clear()

    def train(self, mode: bool = True) -> "MultimodalItemEmbedding":
        """Set the mode; training changes weights, so the kept tables go."""
        if mode:
            self.forget()
        return super().train(mode)

    def _load_from_state_dict(self, *args, **kwargs):
        self.forget()
        super()._load_from_state_dict(*args, **kwargs)

    @property
    def weight(self) -> torch.Tensor:
        """The table in use, ``[rows, embedding_dim]``.

        Raises
        ------
        TrainingError
            Outside of :meth:`batch` and :meth:`catalogue`: it would mean encoding the whole catalogue in every step.
        """
        if self._table is None:
            raise TrainingError(
                "This step asks for the embedding of the whole catalogue, which would run the foundation model on "
                "every item. Train through the trainer with loss_type BCE, BPR or CE, which see the batch's items only."
            )
        return self._table

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows ``ids [...]`` of the table in use, ``[..., embedding_dim]``."""
        return F.embedding(ids, self.weight)
