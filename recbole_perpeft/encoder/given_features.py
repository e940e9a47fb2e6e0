"""Features that are given in files, in place of a foundation model (``item_features``, with ``peft_type: NONE``)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.content.item_file import read_item_texts
from recbole_perpeft.encoder.item_encoder import FrozenItemEncoder
from recbole_perpeft.utils.device_rows import DeviceRows
from recbole_perpeft.utils.errors import EncoderError

MODALITIES = ("image", "text")


@dataclass(frozen=True)
class GivenModel:
    """What is known of the models that the features came from: nothing but the files and their widths."""

    name: str
    widths: dict[str, int]
    num_parameters: int = 0

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those in use."""
        return tuple(self.widths)

    def fingerprint(self) -> str:
        """The same for all features of these modalities: they are the content, whose hash tells them apart."""
        return f"given {' '.join(self.widths)}"


@dataclass(frozen=True)
class GivenContent:
    """What an encoder sees of the items: the features themselves."""

    n_items: int
    hash: str


@dataclass
class Lookups:
    """How features are had: looked up, in single precision."""

    dtype: torch.dtype = torch.float32
    items_encoded: int = 0
    in_portions: bool = False


class GivenItemEncoder(FrozenItemEncoder):
    """Features from ``.npy`` files, the same for all groups; those of each modality are scaled to length 1.

    Parameters
    ----------
    features : mapping of str to array
        By modality, ``[n_items, d]``, row 0 of padding.
    name : str
        Of the files.
    num_groups : int
        Number of user groups.
    """

    def __init__(self, features: Mapping[str, np.ndarray], name: str, num_groups: int) -> None:
        nn.Module.__init__(self)  # what an encoder has beside is of its foundation model
        self.num_groups = num_groups
        self.foundation = GivenModel(name, {modality: array.shape[1] for modality, array in features.items()})
        parts = [F.normalize(torch.from_numpy(np.asarray(array, np.float32)), dim=1) for array in features.values()]
        self._table = torch.cat(parts, dim=1).numpy()  # [n_items, d]
        self.feature_dim = self._table.shape[1]
        self.content = GivenContent(len(self._table), hashlib.sha256(self._table).hexdigest()[:24])
        self.item_features = Lookups()
        self.register_buffer("place", torch.empty(0), persistent=False)  # is where the encoder is moved to
        self._rows: DeviceRows | None = None

    def encode(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """Look up the features of items [n]: [n, feature_dim], without gradient."""
        self._check_group(group)
        if self._rows is None or self._rows.device != self.place.device:
            self._rows = DeviceRows(self._table, self.place.device)
        return self._rows.gather(items)

    def fixed_features(self) -> torch.Tensor:
        """The same, ``[n_items, d]``."""
        return self.encode(torch.arange(len(self._table)), 0)


def check_given(item_features: Mapping[str, str] | None, peft_type: str | None, modalities: Sequence[str]) -> None:
    """Refuse features that do not go together with other settings, before any is read.

    Raises
    ------
    EncoderError
        Names the settings and the cure.
    """
    if not item_features:
        return
    if not isinstance(item_features, Mapping) or not set(item_features) <= set(MODALITIES):
        raise EncoderError(
            f"item_features: {item_features!r} is not possible: write the files by modality, as in "
            "{image: image_feat.npy, text: text_feat.npy}."
        )
    if peft_type is not None and str(peft_type).upper() != "NONE":
        raise EncoderError(
            f"peft_type: {peft_type} is not possible with item_features: there is no model to adapt behind features "
            "that are given. Set peft_type: NONE; or leave item_features out, and set encoder."
        )
    for modality in modalities:
        if modality not in item_features:
            raise EncoderError(
                f"item_features: {dict(item_features)} has no file for modalities: {list(modalities)}. Add that of "
                f"{modality}, or set modalities: [{', '.join(item_features)}]."
            )


def given_encoder(
    item_features: Mapping[str, str],
    modalities: Sequence[str],
    tokens: Sequence[str],
    item_file: Path,
    item_id_field: str,
    num_groups: int,
    *,
    encoding: str = "utf-8",
    separator: str = "\t",
) -> GivenItemEncoder:
    """Read the features of a catalogue.

    Parameters
    ----------
    item_features : mapping of str to str
        ``.npy`` files by modality, ``[n, d]``; row ``i`` is of the item in the ``i``-th row of ``item_file``. Looked
        for from its folder.
    modalities : sequence of str
        Those in use.
    tokens : sequence of str
        Item ids in the order of their numbers, padding first.
    item_file : Path
        The atomic ``.item`` file.
    item_id_field : str
        Its column of ids.
    num_groups : int
        Number of user groups.
    encoding, separator : str
        Of the item file.

    Returns
    -------
    GivenItemEncoder

    Raises
    ------
    EncoderError
        If a file cannot be read, is of another size than the item file, or an item has no row.
    ContentError
        If the item file cannot be read.
    """
    check_given(item_features, None, modalities)
    listed = read_item_texts(item_file, item_id_field, [], encoding=encoding, separator=separator)
    row_of = {item: row for row, item in enumerate(listed)}
    if missing := [item for item in tokens[1:] if str(item) not in row_of]:
        raise EncoderError(
            f"item_features: {len(missing)} of {len(tokens) - 1} items have no row in {item_file}, such as "
            f"{missing[0]!r}, and so no features. Add them there and to the files of features, in the same order."
        )
    rows = np.array([row_of[str(item)] for item in tokens[1:]])
    features = {}
    for modality in MODALITIES:
        if modality in modalities:
            array = _open(item_file.parent / item_features[modality], len(row_of), item_file)
            taken = np.array(array[rows], np.float32)
            if not np.isfinite(taken).all():
                raise EncoderError(f"item_features: {item_features[modality]} holds values that are no numbers.")
            features[modality] = np.concatenate([np.zeros((1, array.shape[1]), np.float32), taken])
    return GivenItemEncoder(
        features, " + ".join(Path(item_features[modality]).name for modality in features), num_groups
    )


def _open(file: Path, number: int, item_file: Path) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EncoderError(f"item_features: {file} cannot be read: {error}.") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
        raise EncoderError(f"item_features: {file} has shape {array.shape} of {array.dtype}: needed is [items, d].")
    if len(array) != number:
        raise EncoderError(
            f"item_features: {file} has {len(array):,} rows, and {item_file} {number:,} items: each row has to be of "
            "the item in the same row there."
        )
    return array
