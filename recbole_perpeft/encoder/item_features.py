"""Features of items: gathers their content and runs the foundation model on it, no layer more than is needed."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from recbole_perpeft.content import ItemContent
from recbole_perpeft.content.store import digest
from recbole_perpeft.content.uses import note_use
from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.hidden_states import TowerStates
from recbole_perpeft.encoder.foundation.state_store import StateStore, ensure_states
from recbole_perpeft.utils.device_rows import to_device

# Texts are encoded with others whose length rounds up to the same multiple of this.
_LENGTH_STEP = 8
# Items per run: on a CPU always, for its cache; on a GPU where no gradient is needed, halved until they fit.
_CHUNK = {"cpu": 128, "cuda": 2048}
_SMALLEST_CHUNK = 16


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
    """

    def __init__(self, foundation: FoundationModel, content: ItemContent, dtype: torch.dtype, show_progress: bool):
        self.foundation, self.content = foundation, content
        self.dtype, self.show_progress = dtype, show_progress
        self.items_encoded = self.items_prepared = 0
        self._device: torch.device | None = None
        self._lower: dict[str, StateStore] = {}
        self._chunk = 0

    def encode(self, items: torch.Tensor) -> torch.Tensor:
        """Encode items [n] (on the CPU): [n, feature_dim], float32, with gradient where it is enabled."""
        self._arrive()
        if not len(items):
            return torch.empty(0, self.foundation.feature_dim, device=self._device)
        self.items_encoded += len(items)
        return self._by_modality(items)

    def frozen_features(self) -> StateStore:
        """Features of all items from the model as it is now, computed once ever: states ``[1, feature_dim]`` each."""
        self._arrive()
        self.content.place(self._device)
        lengths = np.ones(self.content.n_items, dtype=np.int64)

        def compute(items: torch.Tensor) -> torch.Tensor:
            return self._by_modality(items)[:, None]

        store = self._store("Content features", self.content.modalities, lengths, compute, torch.float32)
        self.content.rest()  # who reads these reads nothing else of it any more
        return store

    def hidden_states(self, towers: dict[str, TowerStates], number: int) -> dict[str, StateStore]:
        """``number`` hidden states ``[number, widest]`` of every item and modality, computed once ever."""
        self._arrive()
        stores = {modality: self._hidden_states(modality, tower, number) for modality, tower in towers.items()}
        self.content.rest()  # they are all that is read from now on
        return stores

    def _hidden_states(self, modality: str, tower: TowerStates, number: int) -> StateStore:
        def compute(items: torch.Tensor) -> torch.Tensor:
            batch = self.content.batch(items, [modality], _LENGTH_STEP)
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
        self._device, self._chunk = device, _CHUNK.get(device.type, _CHUNK["cpu"])
        self.content.place(device)
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
        positions = self._buckets(modality, items)
        parts = [self._run(modality, items[part]) for part in positions]
        if len(parts) == 1:
            return parts[0]
        back = torch.cat(positions).argsort()
        return torch.cat(parts).index_select(0, to_device(back, self._device))  # [n, d]

    def _buckets(self, modality: str, items: torch.Tensor) -> list[torch.Tensor]:
        """Positions in ``items`` that are run together."""
        buckets = [torch.arange(len(items))]
        if modality == "text":
            steps = -(-self.content.text_lengths(items) // _LENGTH_STEP)
            buckets = [torch.from_numpy(np.flatnonzero(steps == step)) for step in np.unique(steps)]
        if torch.is_grad_enabled() and self._device.type != "cpu":
            return buckets
        return [chunk for bucket in buckets for chunk in bucket.split(self._chunk)]

    def _run(self, modality: str, items: torch.Tensor) -> torch.Tensor:
        lower = self._lower.get(modality)
        reads_content = lower is None or modality == "text"  # a cut text encoder still needs its mask
        batch = self.content.batch(items, [modality], _LENGTH_STEP) if reads_content else {}
        states = None
        if lower is not None:
            states = lower.gather(items, batch["input_ids"].shape[1] if modality == "text" else lower.longest)
        with self._autocast():
            return self.foundation.encode(modality, batch, states)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.foundation.device.type, self.dtype, enabled=self.dtype != torch.float32)
