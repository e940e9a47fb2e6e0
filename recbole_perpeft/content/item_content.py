"""What an encoder sees of the catalogue: pictures and texts of all items."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from recbole_perpeft.content.store import content_hash, digest, open_array, release_pages
from recbole_perpeft.utils.device_rows import DeviceRows, to_device


class ItemContent:
    """Pictures and texts of the catalogue; row ``i`` belongs to RecBole's internal item id ``i``.

    The arrays are read-only memory maps. A copied or unpickled `ItemContent` opens them again.

    Parameters
    ----------
    modalities
        Which of ``"image"`` and ``"text"`` there are.
    n_items
        Number of rows, with row 0 for the padding item.
    key
        Changes whenever the content of a batch may change.
    pixel_store, token_store
        Folders of the stores; None for a modality that is not there.
    data_set
        Name of the data set, for the lists of what the cache holds.
    fixed_text_length
        Whether texts keep their full padded length and have no attention mask, as SigLIP was trained.
    pictures_decoded
        Pictures of the store if it was made for it, opened or taken from that of another catalogue; 0 if it was found.

    Attributes
    ----------
    pixels : numpy.ndarray or None
        uint8 ``[n_items, 3, H, W]``, before rescaling and normalisation.
    tokens : numpy.ndarray or None
        int32 ``[n_items, max_length]``, padded on the right.
    lengths : numpy.ndarray or None
        int32 ``[n_items]``, tokens that are not padding; at least 1.
    """

    def __init__(
        self,
        modalities: tuple[str, ...],
        n_items: int,
        key: str,
        pixel_store: Path | None,
        token_store: Path | None,
        data_set: str,
        fixed_text_length: bool,
        pictures_decoded: int = 0,
    ):
        self.modalities = modalities
        self.n_items = n_items
        self.key = key
        self.data_set = data_set
        self.fixed_text_length = fixed_text_length
        self.pictures_decoded = pictures_decoded
        self._pixel_store = pixel_store
        self._token_store = token_store
        self.device = torch.device("cpu")
        self._open()

    def _open(self) -> None:
        self.pixels = self.tokens = self.lengths = None
        if self._pixel_store is not None:
            self.pixels = open_array(self._pixel_store / "pixels.npy")
        if self._token_store is not None:
            self.tokens = open_array(self._token_store / "tokens.npy")
            self.lengths = open_array(self._token_store / "lengths.npy")
        self.place(self.device)

    def __getstate__(self) -> dict:
        closed = dict.fromkeys(("pixels", "tokens", "lengths", "_pixel_rows", "_token_rows"))
        return {**self.__dict__, **closed, "device": torch.device("cpu")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def hash(self) -> str:
        """Changes with what an encoder sees of the items, and with nothing else: not with where or when it was made."""
        stores = [store and content_hash(store) for store in (self._pixel_store, self._token_store)]
        return digest([*stores, self.fixed_text_length])

    def hashes(self, modalities: Sequence[str]) -> list[str]:
        """A hash of what an encoder sees of each item in ``modalities``, the same for items that look the same."""
        arrays = [self.pixels] if "image" in modalities else []
        arrays += [self.tokens, self.lengths] if "text" in modalities else []
        found = []
        for item in range(self.n_items):
            hashed = hashlib.blake2b(digest_size=16)
            for array in arrays:
                hashed.update(np.ascontiguousarray(array[item]))
            found.append(hashed.hexdigest())
        return found

    @property
    def cache_dir(self) -> Path:
        """The folder of the stores, where what is computed from the content has its place too."""
        return (self._pixel_store or self._token_store).parent

    def place(self, device: torch.device) -> None:
        """Give batches on ``device`` from now on; on a GPU the arrays are kept in its memory if they fit."""
        self.device = torch.device(device)
        self._pixel_rows = None if self.pixels is None else DeviceRows(self.pixels, self.device)
        self._token_rows = None if self.tokens is None else DeviceRows(self.tokens, self.device)

    def rest(self) -> None:
        """Hold no memory for the arrays until they are read again, which is not to be expected."""
        self.place(torch.device("cpu"))
        for array in (self.pixels, self.tokens, self.lengths):
            if array is not None:
                release_pages(array)

    def batch(
        self, items: torch.Tensor, modalities: Sequence[str] | None = None, length_step: int = 1
    ) -> dict[str, torch.Tensor]:
        """Gather the content of items.

        Parameters
        ----------
        items
            Internal item ids, int64 ``[n]``, on the CPU.
        modalities
            Those that are needed; None takes all that there are.
        length_step
            Texts are cut to the longest of these items, rounded up to a multiple of this.

        Returns
        -------
        dict
            On the device: with images ``"pixels"`` uint8 ``[n, 3, H, W]``; with texts ``"input_ids"`` int64
            ``[n, l]`` and ``"attention_mask"`` int64 ``[n, l]``. With `fixed_text_length`, ``l`` is always the full
            length and there is no ``"attention_mask"``.
        """
        batch = {}
        for modality in self.modalities if modalities is None else modalities:
            batch |= (
                {"pixels": self._pixel_rows.gather(items)} if modality == "image" else self._texts(items, length_step)
            )
        return batch

    def _texts(self, items: torch.Tensor, length_step: int) -> dict[str, torch.Tensor]:
        lengths = self.text_lengths(items)  # [n]
        longest = -(-int(lengths.max(initial=1)) // length_step) * length_step
        ids = self._token_rows.gather(items)[:, :longest].long()  # [n, l]
        if self.fixed_text_length:
            return {"input_ids": ids}
        lengths = to_device(torch.from_numpy(lengths), self.device)
        mask = torch.arange(ids.shape[1], device=self.device) < lengths[:, None]  # [n, l]
        return {"input_ids": ids, "attention_mask": mask.long()}

    def text_lengths(self, items: torch.Tensor) -> np.ndarray:
        """Tokens that the text encoder reads of items ``[n]``, int ``[n]``."""
        if self.fixed_text_length:
            return np.full(len(items), self.tokens.shape[1])
        return self.lengths[items.numpy()]
