"""The item tower: what stands in the place of a backbone's item embedding (paper, section on the item embedding)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.model.catalogue_features import CHUNK, CatalogueFeatures
from recbole_perpeft.model.conditioning import GroupVectors, UserConditioning
from recbole_perpeft.model.content_loss import TABLES
from recbole_perpeft.model.content_term import ContentTerm
from recbole_perpeft.model.gradient_cache import CarriedWindow, EncodingWindow, encode_in_portions
from recbole_perpeft.model.item_rows import ItemRows
from recbole_perpeft.model.last_features import LastFeatures
from recbole_perpeft.model.stale_features import extrapolate
from recbole_perpeft.utils.device_rows import to_device
from recbole_perpeft.utils.errors import TrainingError
from recbole_perpeft.utils.mapped_rows import blocks, fill, release, rows_from


class MultimodalItemEmbedding(ItemRows):
    """A table of items' rows, as a group sees them.

    The table that :attr:`weight` gives is set by :meth:`batch` (the distinct items of one training batch,
    with gradient), :meth:`whole` (these and the rest of the catalogue as last computed) or :meth:`catalogue` (all
    items, without gradient). Outside of them there is none, so that no training step encodes the whole catalogue by
    accident.

    Parameters
    ----------
    id_embedding, encoder, num_projectors, content_weight, projector_size, conditioning, n_items, biases, untrained
        As of :class:`~recbole_perpeft.model.item_rows.ItemRows`.
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
        of_rows = id_embedding, encoder, num_projectors, content_weight, projector_size, conditioning, n_items
        super().__init__(*of_rows, biases, untrained)
        self.content_term = content_term
        self._of_catalogue = CatalogueFeatures(encoder, n_items, show_progress, folder)
        self._table: torch.Tensor | None = None
        self._window: EncodingWindow | None = None
        # per group: z of all items under the weights as they are, [n_items, embedding_dim] ...
        self._tables: dict[int, torch.Tensor] = {}
        self._read: torch.Tensor | None = None  # the last of them in use
        self._last = LastFeatures()

        self.register_load_state_dict_post_hook(_other_weights)

    def group_parameters(self, group: int) -> list[nn.Parameter]:
        """As of ``ItemRows``, with what the group's users have learnt of likeness."""
        has_bends = self.content_term is not None and self.encoder.num_groups > 1
        return super().group_parameters(group) + (self.content_term.bend_parameters(group) if has_bends else [])

    def personalise(self, num_groups: int) -> None:
        """Start stage 3: every group gets a copy of what is group 0's; users see items in their own way, if they do."""
        self.encoder.copy_adapter(0)
        state = self.projectors[0].state_dict()
        for target in self.projectors:
            target.load_state_dict(state)
        if isinstance(self.conditioning, GroupVectors):
            self.conditioning.copy_group(0)
        table = self._tables.get(0)
        if self.content_term is not None:
            self.content_term.share(self.encoder.num_groups)
        self._tables.clear()
        self._last.share(self.encoder.num_groups)
        if self.conditioning is not None and not isinstance(self.conditioning, GroupVectors):
            self.conditioning.start()
        elif table is not None:
            self._tables = dict.fromkeys(range(num_groups), table)

    @contextmanager
    def window(
        self, items: torch.Tensor, group: int, portion: int | None = None, encoded: torch.Tensor | None = None
    ) -> Iterator[Callable[[], None]]:
        """Encode ``items`` (on the CPU, sorted) once for several steps, whose gradients add up at their features.

        With ``portion``, only so many items' way through the encoder is in memory at a time. With ``encoded``, some of
        the items, these alone are encoded. The others' features are carried on from those last computed, and all
        items' count as last computed then. Gives a function that carries the summed gradient back through the encoder:
        the gradient of the steps' losses at the encoder's weights as they are now, whatever the steps have done to the
        backbone in between.
        """
        module, chosen = self.module_of(group), items if encoded is None else encoded
        part = self._of_catalogue.share(len(chosen), module)
        own = chosen if part is None else chosen[part.rows]
        self.encoder.item_features.in_portions = portion is not None and len(own) > portion
        try:
            features = encode_in_portions(partial(self.encoder.encode, group=module), own, portion, self._in_training)
            if encoded is None:
                window = EncodingWindow(items, features, part)
            else:
                window = CarriedWindow(items, features, part, encoded, self._last_features(group))
            self._window = window
            yield lambda: window.backward([parameter for _, parameter in self.encoder.adapter_parameters(module)])
            if encoded is not None:
                self._last.take(module, window.of_all_items)
        finally:
            self._window, self.encoder.item_features.in_portions = None, False

    def features(self, items: torch.Tensor, group: int) -> torch.Tensor:
        return super().features(items, group) if self._window is None else self._window.features(items)

    def _content(self, items: torch.Tensor, group: int) -> torch.Tensor:
        if self._window is None:
            return super()._content(items, group)
        return self._window.rows(items, partial(self._project, group=group))

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
        own = self._content(items, group)  # [m, embedding_dim]
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
            if not self._tables:  # what this evaluation leaves out would be older still
                self._last.clear()
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
        module, term, whole = self.module_of(group), self.content_term, None
        if term is not None:
            term.read_fixed(self.encoder)
        is_new = term is not None and not term.has_read(module)
        if (is_new and term.reads_features) or self._last.are_kept or self.by_user:
            whole = self._whole_features(group)  # [n_items, content_size]
        if is_new:
            term.read(module, whole if term.reads_features else None)
        if self._last.are_kept:
            self._last.take(module, whole)
        if self.by_user:
            return whole
        some = self._of_catalogue.blocks(module, group) if whole is None else blocks(rows_from(whole, 1), CHUNK)
        table = self._of_catalogue.room(self.num_embeddings, self.embedding_dim, self.device)
        return fill(table, self._table_rows(some, group))

    def _table_rows(self, features: Iterable[torch.Tensor], group: int) -> Iterator[torch.Tensor]:
        """Rows of padding, of items with ``features`` ``[n, content_size]`` each, and of what comes past them."""
        yield self.id_embedding.weight.new_zeros(1, self.embedding_dim)
        first = 1
        for some in features:
            yield self._with_id_rows(self._project(some, group), first, group)
            first += len(some)
        past = self.num_embeddings - first
        yield self._with_id_rows(self.id_embedding.weight.new_zeros(past, self.embedding_dim), first, group)

    @property
    def can_carry_on(self) -> bool:
        """Whether there is room for the features that were last computed for every module."""
        return LastFeatures.size(self.n_items, self.encoder.feature_dim, self.encoder.num_groups) <= TABLES

    def lacking(self, groups: Iterable[int]) -> list[int]:
        """Modules of ``groups`` of which it is not known what they last saw, from which windows are carried on."""
        return [module for module in dict.fromkeys(map(self.module_of, groups)) if not self._last.has(module)]

    def have_last(self, modules: Sequence[int]) -> None:
        """Compute what ``modules`` see of all items, as an evaluation would; what those see that are alike, once."""
        for number, module in enumerate(modules):
            alike = next((one for one in modules[:number] if self._are_alike(one, module)), None)
            if alike is None:
                self._last_features(module)
            else:
                self._last.take(module, self._last_features(alike))

    def _are_alike(self, *modules: int) -> bool:
        first, second = ([own for _, own in self.encoder.adapter_parameters(module)] for module in modules)
        return all(map(torch.equal, first, second))

    def _last_features(self, group: int) -> torch.Tensor:
        return self._last.of(self.module_of(group), partial(self.content_features, group))

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
        """Drop the tables, for weights have moved; what was last computed of the encoder serves training on."""
        self._tables.clear()
        self._read = None
        if self.content_term is not None:
            self.content_term.forget()

    def forget(self) -> None:
        """Drop all that was computed of the catalogue, for the weights are others; the next use computes it anew."""
        self.invalidate()
        self._last.clear()

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
