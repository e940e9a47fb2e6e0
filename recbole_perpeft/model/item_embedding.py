"""The item tower: what stands in the place of a backbone's item embedding (paper, section on the item embedding)."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.model.catalogue_features import CHUNK, CatalogueFeatures
from recbole_perpeft.model.conditioning import GroupVectors, UserConditioning
from recbole_perpeft.model.content_term import ContentTerm
from recbole_perpeft.model.gradient_cache import EncodingWindow, encode_in_portions
from recbole_perpeft.model.id_rows import rows_and_norm
from recbole_perpeft.model.projector import projector
from recbole_perpeft.model.stale_features import extrapolate
from recbole_perpeft.utils.device_rows import to_device
from recbole_perpeft.utils.errors import TrainingError
from recbole_perpeft.utils.mapped_rows import blocks, fill, release, rows_from

_HISTORY_DTYPE = torch.float16  # the features have length 1; half the memory of all groups' histories


class MultimodalItemEmbedding(nn.Module):
    """Items as a group sees them: ``z(i, g) = w R_g(f(i; P_g)) + e_i``.

    The table that :attr:`weight` gives is set by :meth:`batch` (the distinct items of one training batch,
    with gradient), :meth:`whole` (these and the rest of the catalogue as last computed) or :meth:`catalogue` (all
    items, without gradient). Outside of them there is none, so that no training step encodes the whole catalogue by
    accident.

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
    show_progress
        Whether encoding a catalogue shows a bar.
    content_term
        What likeness adds to the scores; it is told of the catalogue's features.
    folder
        Gives where tables lie that are too large for memory.
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
        biases: int = 0,
        untrained: Sequence[int] = (),
        show_progress: bool = False,
        content_term: ContentTerm | None = None,
        folder: Callable[[], Path] = Path,
    ):
        super().__init__()
        self.content_term = content_term
        self.id_embedding, self.encoder, self.conditioning = id_embedding, encoder, conditioning
        self.content_weight, self.n_items = content_weight, n_items
        self._of_catalogue = CatalogueFeatures(encoder, n_items, show_progress, folder)
        first = projector(encoder.feature_dim, projector_size, id_embedding.embedding_dim, biases)
        self.projectors = nn.ModuleList(copy.deepcopy(first) for _ in range(num_projectors))
        self.register_buffer("_in_training", torch.ones(id_embedding.num_embeddings, 1), persistent=False)
        self.untrained = untrained
        self._table: torch.Tensor | None = None
        self._window: EncodingWindow | None = None
        # per group: z of all items under the weights as they are, [n_items, embedding_dim] ...
        self._tables: dict[int, torch.Tensor] = {}
        self._read: torch.Tensor | None = None  # the last of them in use
        # ... and, once whole() has been used, f(i; P_g) as last computed of all, [n_items, content_size]
        self._history: dict[int, torch.Tensor] | None = None

        self.register_load_state_dict_post_hook(_other_weights)

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
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.id_embedding.weight.device

    def personalise(self, num_groups: int) -> None:
        """Start stage 3: every group gets a copy of what is group 0's; users see items in their own way, if they do."""
        self.encoder.copy_adapter(0)
        state = self.projectors[0].state_dict()
        for target in self.projectors:
            target.load_state_dict(state)
        if isinstance(self.conditioning, GroupVectors):
            self.conditioning.copy_group(0)
        table, history = self._tables.get(0), (self._history or {}).get(0)
        if self.content_term is not None:
            self.content_term.share(self.encoder.num_groups)
        self._tables.clear()
        self._history = None if self._history is None else {}
        if self.conditioning is not None and not isinstance(self.conditioning, GroupVectors):
            self.conditioning.start()
        elif table is not None:
            self._tables = dict.fromkeys(range(num_groups), table)
        if history is not None:
            self._history = dict.fromkeys(range(num_groups), history)

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

    # -- rows -------------------------------------------------------------------------------------------------------

    def embed(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """``z(i, g)`` of catalogue ids ``items [n]`` (on the CPU), ``[n, embedding_dim]``."""
        return self._embed(items, group, None)[0]

    def _embed(self, items: torch.Tensor, group: int, users: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Items ``[m]``, or as each of ``users [u]`` sees them ``[u * m]``, and the ID table's norm, ``[]``."""
        features, on_device = self._features(items, group), to_device(items, self.device)
        ids, norm = rows_and_norm(self.id_embedding.weight, on_device)
        ids = ids * F.embedding(on_device, self._in_training)  # [m, embedding_dim]
        if users is None:
            return self._as_seen(self._project(features, group) + ids, group), norm
        rows = self.conditioning.rows(self._projector(group), self.content_weight, features, ids, users)
        return rows.flatten(0, 1), norm

    def _features(self, items: torch.Tensor, group: int) -> torch.Tensor:
        window = self._window
        return self.encoder.encode(items, self.module_of(group)) if window is None else window.features(items)

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

    @contextmanager
    def window(self, items: torch.Tensor, group: int, portion: int | None = None) -> Iterator[Callable[[], None]]:
        """Encode ``items`` (on the CPU, sorted) once for several steps, whose gradients add up at their features.

        With ``portion``, only so many items' way through the encoder is in memory at a time. Gives a function that
        carries the summed gradient back through the encoder: the gradient of the steps' losses at the encoder's weights
        as they are now, whatever the steps have done to the backbone in between.
        """
        module = self.module_of(group)
        part = self._of_catalogue.share(len(items), module)
        own = items if part is None else items[part.rows]
        features = encode_in_portions(partial(self.encoder.encode, group=module), own, portion, self._in_training)
        self._window = window = EncodingWindow(items, features, part)
        try:
            yield lambda: window.backward([parameter for _, parameter in self.encoder.adapter_parameters(module)])
        finally:
            self._window = None

    # -- tables -----------------------------------------------------------------------------------------------------

    @contextmanager
    def batch(self, items: torch.Tensor, group: int, users: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Let ids be rows of the table of ``items [m]``: row ``i`` is ``items[i - 1]``, row 0 is padding (zeros).

        With ``users [u]``, who see items in their own way: row ``1 + k m + i`` is ``items[i]`` as ``users[k]`` does.
        Gives the norm of the whole ID table, ``[]``.
        """
        rows, norm = self._embed(items, group, users)
        with self._using(F.pad(rows, (0, 0, 1, 0))):  # [m + 1, embedding_dim]
            yield norm

    @contextmanager
    def whole(self, items: torch.Tensor, group: int) -> Iterator[torch.Tensor]:
        """Let ids be catalogue ids in a training step whose own items are ``items [m]``, or those of the open window.

        These rows are computed now and carry gradient into the encoder. For all others the encoder's features are those
        last computed for the group; their projection and their ID part are as now, with gradient. How the step's items
        have moved since then says how the others have: the targets are among the step's items, and were the others left
        behind, the loss would fall by telling old rows from new ones, which teaches nothing about any of them. Gives
        the norm of the ID table, ``[]``.
        """
        items = items if self._window is None else self._window.items
        own = self._project(self._features(items, group), group)  # [m, embedding_dim]
        before = self._project(self._last_features(group).float(), group)  # [n_items, embedding_dim]
        with self._using(self._with_ids(extrapolate(before, to_device(items, self.device), own), group)):
            yield self.id_embedding.weight.norm()

    @contextmanager
    def catalogue(self, group: int, user: torch.Tensor | None = None) -> Iterator[None]:
        """Let ids be catalogue ids, as ``group`` sees them (or as ``user [1]`` does); without gradient.

        A group's table (what users' tables are made of) is computed once and kept until :meth:`invalidate` or
        :meth:`forget`.
        """
        with torch.no_grad():
            if self._history is not None and not self._tables:  # what this evaluation leaves out would be older still
                self._history.clear()
            if group not in self._tables:
                self._tables[group] = self._computed(group)
            table = self._tables[group]
            if self._read is not None and self._read is not table:
                release(self._read)
            self._read = table
            if self.content_term is not None:
                self.content_term.use(self.module_of(group))
            if user is not None:
                ids = self.id_embedding.weight * self._in_training
                arguments = self._projector(group), self.content_weight, table, ids, user
                table = F.pad(self.conditioning.rows(*arguments)[0, 1:], (0, 0, 1, 0))  # [n_items, embedding_dim]
        with self._using(table):
            yield

    def keep(self, tables: dict[int, torch.Tensor]) -> None:
        """Take groups' tables that :meth:`catalogue` has computed before, under the weights as they are."""
        self._tables = dict(tables)

    @contextmanager
    def _using(self, table: torch.Tensor) -> Iterator[None]:
        before, self._table = self._table, table
        try:
            yield
        finally:
            self._table = before

    def _computed(self, group: int) -> torch.Tensor:
        """The table that :meth:`catalogue` keeps, some items at a time unless their features are needed too."""
        term, whole = self.content_term, cache(partial(self._whole_features, group))
        if term is not None:
            term.read(self.module_of(group), whole, self.encoder)
        if self._history is not None:
            self._history[group] = whole().to(_HISTORY_DTYPE)
        if self.by_user:
            return whole()
        is_known = whole.cache_info().currsize
        known = blocks(rows_from(whole(), 1), CHUNK) if is_known else None
        features = known or self._of_catalogue.blocks(self.module_of(group), group)
        table = self._of_catalogue.room(self.num_embeddings, self.embedding_dim, self.device)
        return fill(table, self._table_rows(features, group))

    def _table_rows(self, features: Iterable[torch.Tensor], group: int) -> Iterator[torch.Tensor]:
        """Rows of padding, of items with ``features`` ``[n, content_size]`` each, and of what comes past them."""
        yield self.id_embedding.weight.new_zeros(1, self.embedding_dim)
        first = 1
        for some in features:
            yield self._with_id_rows(self._project(some, group), first, group)
            first += len(some)
        past = self.num_embeddings - first
        yield self._with_id_rows(self.id_embedding.weight.new_zeros(past, self.embedding_dim), first, group)

    def _with_ids(self, content: torch.Tensor, group: int) -> torch.Tensor:
        """``[num_embeddings, embedding_dim]`` of the catalogue's ``content``, zeros in the row of padding."""
        content = F.pad(content, (0, 0, 0, self.num_embeddings - self.n_items))
        return F.pad(self._with_id_rows(content[1:], 1, group), (0, 0, 1, 0))

    def _with_id_rows(self, content: torch.Tensor, first: int, group: int) -> torch.Tensor:
        """Rows from ``first`` on as ``group`` sees them, of their ``content [n, embedding_dim]``."""
        rows = slice(first, first + len(content))
        return self._as_seen(content + self.id_embedding.weight[rows] * self._in_training[rows], group)

    def _last_features(self, group: int) -> torch.Tensor:
        self._history = self._history or {}
        if group not in self._history:
            self._history[group] = self.content_features(group).to(_HISTORY_DTYPE)
        return self._history[group]

    def _whole_features(self, group: int) -> torch.Tensor:
        """``[n_items, content_size]``, zeros in the row of padding."""
        return self._of_catalogue.whole(self.module_of(group), group, self.device)

    @torch.no_grad()
    def content_features(self, group: int) -> torch.Tensor:
        """What the encoder sees of all items for ``group``, ``[n_items, content_size]``."""
        training = self.training
        self.encoder.eval()  # as an evaluation would, without dropout
        features = self._whole_features(group)
        self.encoder.train(training)
        return features

    def invalidate(self) -> None:
        """Drop the tables, for weights have moved; what was last computed of the encoder still serves :meth:`whole`."""
        self._tables.clear()
        self._read = None
        if self.content_term is not None:
            self.content_term.forget()

    def forget(self) -> None:
        """Drop all that was computed of the catalogue, for the weights are others; the next use computes it anew."""
        self.invalidate()
        if self._history is not None:
            self._history.clear()

    @property
    def weight(self) -> torch.Tensor:
        """The table in use, ``[rows, embedding_dim]``.

        Raises
        ------
        TrainingError
            Where there is none: it would mean encoding the whole catalogue in every step.
        """
        if self._table is None:
            raise TrainingError(
                "This step asks for the embedding of the whole catalogue, which would run the foundation model on "
                "every item. Train through the trainer with loss_type BCE, BPR or CE, which see the batch's items only."
            )
        return self._table


def _other_weights(tower: MultimodalItemEmbedding, incompatible_keys: object) -> None:
    """After a state is loaded, into the tower alone too."""
    tower.forget()
