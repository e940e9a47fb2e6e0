"""The item encoder that the settings ask for."""

from collections.abc import Mapping
from typing import Any

import torch

from recbole_perpeft.content import ItemContent
from recbole_perpeft.encoder.foundation.cutting import cut_towers
from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.trimming import trim_towers
from recbole_perpeft.encoder.iisan.encoder import SideNetworkItemEncoder, side_network_settings
from recbole_perpeft.encoder.item_encoder import FrozenItemEncoder, ItemEncoder
from recbole_perpeft.encoder.peft.adapters import PeftItemEncoder
from recbole_perpeft.encoder.peft.methods import method_settings


def build_item_encoder(
    foundation: FoundationModel,
    content: ItemContent,
    peft_type: str | None,
    peft_config: Mapping[str, Any] | None,
    num_groups: int,
    peft_layers: int | None = None,
    dtype: torch.dtype = torch.float32,
    show_progress: bool = False,
    iisan_form: str = "authors",
) -> ItemEncoder:
    """Build the item encoder that ``peft_type`` names.

    Parameters
    ----------
    foundation : FoundationModel
        The frozen model.
    content : ItemContent
        Pictures and texts of the catalogue.
    peft_type : str or None
        "NONE" (or None) adapts nothing and does not read ``peft_config``; "IISAN" is side networks over hidden states;
        else a method of peft.
    peft_config : mapping or None
        Fields of the method's configuration.
    num_groups : int
        Number of user groups.
    peft_layers : int, optional
        Top layers of each tower that may be adapted; what is below is computed once per item. None adapts all.
    dtype : torch.dtype, optional
        In which the foundation model multiplies.
    show_progress : bool, optional
        Whether work on the whole catalogue shows a bar.
    iisan_form : {"normalised", "authors"}, optional
        How IISAN's networks are built, see :class:`~recbole_perpeft.encoder.iisan.side_network.SideNetworks`.

    Returns
    -------
    ItemEncoder

    Raises
    ------
    EncoderError
        If a setting cannot be used.
    """
    if _is_none(peft_type):
        return FrozenItemEncoder(foundation, content, num_groups, dtype, show_progress)
    if _is_iisan(peft_type):
        return SideNetworkItemEncoder(foundation, content, peft_config, num_groups, dtype, show_progress, iisan_form)
    if peft_layers is not None:
        cut_towers(foundation, peft_layers)
    trim_towers(foundation)
    return PeftItemEncoder(foundation, content, peft_type, peft_config, num_groups, dtype, show_progress)


def check_peft(peft_type: str | None, peft_config: Mapping[str, Any] | None) -> None:
    """Refuse, before any content is prepared, what :func:`build_item_encoder` would refuse for every foundation model.

    Raises
    ------
    EncoderError
        If the method or one of its fields does not exist, or cannot serve here.
    """
    if _is_iisan(peft_type):
        side_network_settings(peft_config)
    elif not _is_none(peft_type):
        method_settings(peft_type, peft_config)


def _is_none(peft_type: str | None) -> bool:
    return peft_type is None or str(peft_type).upper() == "NONE"


def _is_iisan(peft_type: str | None) -> bool:
    return str(peft_type).upper() == "IISAN"
