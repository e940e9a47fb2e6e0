"""Features of items: gathers their content and runs the foundation model on it, no layer more than is needed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from recbole_perpeft.content.store import digest
from recbole_perpeft.content.uses import note_use
from recbole_perpeft.encoder.foundation.state_store import StateStore, ensure_states
from recbole_perpeft.encoder.shapes import LENGTH_STEP, length_edges, repeated_size
from recbole_perpeft.encoder.side_by_side import run_side_by_side
from recbole_perpeft.utils.device_rows import to_device

if TYPE_CHECKING:  # a bundle is opened without transformers
    from recbole_perpeft.content import ItemContent
    from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
    from recbole_perpeft.encoder.foundation.hidden_states import TowerStates

# Where batches are filled up to sizes and lengths that come again.
_REPEATS_SHAPES = {"cuda"}
# Items per run: on a CPU always, for its cache; on a GPU where no gradient is needed, halved until they fit.
_CHUNK = {"cpu": 128, "small model": 256, "cuda": 2048}
_SMALLEST_CHUNK = 16
# A model of fewer parameters has products too small to be split between the threads of a CPU.
_SMALL_MODEL = 4_000_000


class ItemFeatures:
    """Features of items from the foundation model as it stands, adapters included.

    Parameters
    ----------
    foundation : FoundationModel
        The model; if its towers are cut, what lies below a cut is computed once per item and kept beside the content.
    content : ItemContent
        Pictures and texts of the catalogue.
    dtype : torch.dtype
        In which the model multiplies.
    show_progress : bool
        Whether work on the whole catalogue shows a bar.

    Attributes
    ----------
    items_encoded : int
        How many items went through the foundation model (what lies above the cut) so far.
    items_prepared : int
        How many went through what is computed once only.
    compiled : Callable, optional
        Runs in place of ``foundation.encode`` where a gradient is needed.
    in_portions : bool
        Whether a step's items are encoded in portions whose graph is not kept; towers run one after the other then.
    """

    def __init__(self, foundation: "FoundationModel", content: "ItemContent", dtype: torch.dtype, show_progress: bool):
        self.foundation, self.content = foundation, content
        self.dtype, self.show_progress = dtype, show_progress
        self.items_encoded = self.items_prepared = 0
        self._device: torch.device | None = None
        self._lower: dict[str, StateStore] = {}
        self._chunk, self._threads = 0, torch.get_num_threads()
        self.in_portions = False
        self.compiled: Callable[..., torch.Tensor] | None = None

    def encode(self, items: torch.Tensor, trained: Mapping[str, Sequence[nn.Parameter]] | None = None) -> torch.Tensor:
        """Encode items [n] (on the CPU): [n, feature_dim], float32, with gradient where it is enabled.

        Parameters
        ----------
        items
            Internal item ids.
        trained
            What trains in the tower of each modality, if towers are to run at the same time.
        """
        self._arrive()
        if not len(items):
            return torch.empty(0, self.foundation.feature_dim, device=self._device)
        self.items_encoded += len(items)
        if trained:
            return run_side_by_side([partial(self._in_buckets, m, items) for m in trained], list(trained.values()))
        return self._by_modality(items)

    def frozen_features(self, beside_modules: bool = False) -> StateStore:
        """Features of all items from the model as it is now, computed once ever: states ``[1, feature_dim]`` each.

        With ``beside_modules`` its modules rest now and run later, so that the content is read on.
        """
        self._arrive()
        self.content.place(self._device)
        lengths = np.ones(self.content.n_items, dtype=np.int64)

        def compute(items: torch.Tensor) -> torch.Tensor:
            return self._by_modality(items)[:, None]

        name = f"Content features{' without modules' * beside_modules}"  # which differ by rounding
        store = self._store(name, self.content.modalities, lengths, compute, torch.float32)
        if not beside_modules:
            self.content.rest()  # who reads these reads nothing else of it any more
        return store

    def hidden_states(self, towers: dict[str, "TowerStates"], number: int) -> dict[str, StateStore]:
        """``number`` hidden states ``[number, widest]`` of every item and modality, computed once ever."""
        self._arrive()
        stores = {modality: self._hidden_states(modality, tower, number) for modality, tower in towers.items()}
        self.content.rest()  # they are all that is read from now on
        return stores

    def _hidden_states(self, modality: str, tower: "TowerStates", number: int) -> StateStore:
        def compute(items: torch.Tensor) -> torch.Tensor:
            batch = self.content.batch(items, [modality], LENGTH_STEP)
            with self._autocast():
                return tower.pooled(batch, number).to(self.dtype)

        widths = tower.widths(number)
        of_widths = f" (widths {', '.join(map(str, widths))})" if len(set(widths)) > 1 else ""
        lengths = np.full(self.content.n_items, number)
        return self._store(f"{number} hidden {modality} states{of_widths}", [modality], lengths, compute, self.dtype)

    def _arrive(self) -> None:
        """Follow the model to its device."""
        device = self.foundation.device
        if self._device == device:
            return
        kind = "small model" if self.has_small_products else device.type
        self._device, self._chunk = device, _CHUNK.get(kind, _CHUNK["cpu"])
        self.content.place(device)
        if "text" in self.foundation.modalities:
            lengths = self.content.text_lengths(torch.arange(1, self.content.n_items))
            every = np.arange(LENGTH_STEP, int(lengths.max(initial=1)) + LENGTH_STEP, LENGTH_STEP)
            self._edges = np.array(length_edges(lengths)) if device.type in _REPEATS_SHAPES else every
        if device.type == "cpu" and self.dtype != torch.float32:
            self.foundation.plain_attention()
        self._lower = {modality: self._lower_states(modality) for modality in self.foundation.cuts}

    def _lower_states(self, modality: str) -> StateStore:
        def compute(items: torch.Tensor) -> torch.Tensor:
            with self._autocast():
                return self.foundation.lower_states(modality, self.content.batch(items, [modality])).to(self.dtype)

        every = torch.arange(self.content.n_items)
        if modality == "text":
            lengths = self.content.text_lengths(every)
        else:
            with torch.no_grad():
                lengths = np.full(len(every), compute(every[:1]).shape[1])
        name = f"{modality.capitalize()} states below layer {self.foundation.cuts[modality].first}"
        return self._store(name, [modality], lengths, compute, self.dtype)

    def _store(
        self, name: str, modalities: Sequence[str], lengths: np.ndarray, compute: Callable, dtype: torch.dtype
    ) -> StateStore:
        """States of all items, which read ``modalities`` of them."""
        poolings = [getattr(self.foundation.model, f"{m}_pooling", None) for m in self.foundation.modalities]
        cure = ["plain attention"] * self.foundation.only_plain
        of_encoder = [self.foundation.fingerprint(), poolings, str(self.dtype), *cure]
        key = digest([name, self.content.key, *of_encoder])
        folder = self.content.cache_dir / f"states-{key}"

        @torch.no_grad()
        def counted(items: torch.Tensor) -> torch.Tensor:
            self.items_prepared += len(items)
            return compute(items)

        ensure_states(
            folder,
            lengths,
            counted,
            description=name,
            show_progress=self.show_progress,
            kind=digest([name, self.content.fixed_text_length, *of_encoder]),
            contents=lambda: self.content.hashes(modalities),
        )
        note_use(folder, self.content.data_set)
        return StateStore(folder, lengths, dtype, self._device)

    @property
    def has_small_products(self) -> bool:
        """Whether the threads of torch would take longer to meet than the foundation model's products take."""
        return self.foundation.device.type == "cpu" and self.foundation.num_parameters < _SMALL_MODEL

    @property
    def gains_from_threads(self) -> bool:
        """Whether towers that run at the same time, a thread each, are faster than one after the other."""
        return self.has_small_products and self._threads > 1 and not self.in_portions and self.compiled is None

    def _by_modality(self, items: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                return torch.cat([self._in_buckets(m, items) for m in self.foundation.modalities], dim=-1)
            except torch.cuda.OutOfMemoryError:
                if torch.is_grad_enabled() or self._chunk <= _SMALLEST_CHUNK:
                    raise
                self._chunk //= 2
                torch.cuda.empty_cache()

    def _in_buckets(self, modality: str, items: torch.Tensor) -> torch.Tensor:
        """Encode items beside others of about their length: padding all to the longest costs most of short texts."""
        buckets = self._buckets(modality, items)
        parts = [self._run(modality, items[positions], length) for length, positions in buckets]
        if len(parts) == 1:
            return parts[0]
        back = torch.cat([positions for _, positions in buckets]).argsort()
        return torch.cat(parts).index_select(0, to_device(back, self._device))  # [n, d]

    def _buckets(self, modality: str, items: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
        """Positions in ``items`` that are run together, each with the tokens of its texts."""
        buckets = [(LENGTH_STEP, torch.arange(len(items)))]
        if modality == "text":
            edges = self._edges[np.searchsorted(self._edges, self.content.text_lengths(items))]
            buckets = [(int(edge), torch.from_numpy(np.flatnonzero(edges == edge))) for edge in np.unique(edges)]
        if torch.is_grad_enabled() and self._device.type != "cpu":
            return buckets
        return [(length, chunk) for length, bucket in buckets for chunk in bucket.split(self._chunk)]

    def _run(self, modality: str, items: torch.Tensor, length: int) -> torch.Tensor:
        number = len(items)
        if self._device.type in _REPEATS_SHAPES:
            items = torch.cat([items, items[:1].expand(repeated_size(number) - number)])
        lower = self._lower.get(modality)
        reads_content = lower is None or modality == "text"  # a cut text encoder still needs its mask
        batch = self.content.batch(items, [modality], length) if reads_content else {}
        states = None
        if lower is not None:
            states = lower.gather(items, batch["input_ids"].shape[1] if modality == "text" else lower.longest)
        with self._autocast():
            compiled = self.compiled if torch.is_grad_enabled() else None
            features = (compiled or self.foundation.encode)(modality, batch, states)
        return features if len(features) == number else features[:number]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.foundation.device.type, self.dtype, enabled=self.dtype != torch.float32)
