"""What an encoder sees of the catalogue: pictures and texts of all items."""

from pathlib import Path

import numpy as np
import torch

from recbole_perpeft.content.store import open_array


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
    fixed_text_length
        Whether texts keep their full padded length and have no attention mask, as SigLIP was trained.

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
        fixed_text_length: bool,
    ):
        self.modalities = modalities
        self.n_items = n_items
        self.key = key
        self.fixed_text_length = fixed_text_length
        self._pixel_store = pixel_store
        self._token_store = token_store
        self._open()

    def _open(self) -> None:
        self.pixels = self.tokens = self.lengths = None
        if self._pixel_store is not None:
            self.pixels = open_array(self._pixel_store / "pixels.npy")
        if self._token_store is not None:
            self.tokens = open_array(self._token_store / "tokens.npy")
            self.lengths = open_array(self._token_store / "lengths.npy")

    def __getstate__(self) -> dict:
        return {**self.__dict__, "pixels": None, "tokens": None, "lengths": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()

    def batch(self, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """Gather the content of items.

        Parameters
        ----------
        items
            Internal item ids, int64 ``[n]``, on any device.

        Returns
        -------
        dict
            On the CPU: with images ``"pixels"`` uint8 ``[n, 3, H, W]``; with texts ``"input_ids"`` int64
            ``[n, l]`` and ``"attention_mask"`` int64 ``[n, l]``, where ``l`` is the length of the longest
            text of these items. With `fixed_text_length`, ``l`` is always the full length and there is no
            ``"attention_mask"``.
        """
        rows = items.cpu().numpy()
        batch = {}
        if self.pixels is not None:
            batch["pixels"] = torch.from_numpy(np.asarray(self.pixels[rows]))  # [n, 3, H, W]
        if self.tokens is not None:
            lengths = self.lengths[rows]  # [n]
            longest = self.tokens.shape[1] if self.fixed_text_length else int(lengths.max(initial=1))
            batch["input_ids"] = torch.from_numpy(self.tokens[rows, :longest].astype(np.int64))  # [n, l]
            if not self.fixed_text_length:
                mask = np.arange(longest) < lengths[:, None]  # [n, l]
                batch["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        return batch
