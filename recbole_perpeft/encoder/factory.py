"""The item encoder that the settings ask for."""

from collections.abc import Mapping
from typing import Any

import torch

from recbole_perpeft.content import ItemContent
from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.iisan.encoder import SideNetworkItemEncoder
from recbole_perpeft.encoder.item_encoder import FrozenItemEncoder, ItemEncoder
from recbole_perpeft.encoder.peft.adapters import PeftItemEncoder
from recbole_perpeft.encoder.peft.methods import usable_peft_types

# By peft_type, in capitals: what is called with (foundation, content, num_groups, dtype, show_progress), and with the
# settings that it names in ``reads``.
ENCODERS: dict[str, type[ItemEncoder]] = {
    "NONE": FrozenItemEncoder,
    "IISAN": SideNetworkItemEncoder,
    **dict.fromkeys(usable_peft_types(), PeftItemEncoder),
}


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
    compile_encoder: bool | None = False,
) -> ItemEncoder:
    """Build the item encoder that ``peft_type`` names.

    Parameters
    ----------
    foundation : FoundationModel
        The frozen model.
    content : ItemContent
        Pictures and texts of the catalogue.
    peft_type : str or None
        A name in :data:`ENCODERS`, in any case, or a method that peft has come to know since. "NONE" (or None) adapts
        nothing; "IISAN" is side networks over hidden states.
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
    compile_encoder : bool or None, optional
        Whether training steps run the foundation model compiled; None: from when that pays on a GPU.

    Returns
    -------
    ItemEncoder

    Raises
    ------
    EncoderError
        If a setting cannot be used.
    """
    encoder = _encoder_of(peft_type)
    settings = {
        "peft_type": peft_type,
        "peft_config": peft_config,
        "peft_layers": peft_layers,
        "iisan_form": iisan_form,
        "compile_encoder": compile_encoder,
    }
    read = {key: settings[key] for key in encoder.reads}
    return encoder(foundation, content, num_groups, dtype, show_progress, **read)


def check_peft(peft_type: str | None, peft_config: Mapping[str, Any] | None) -> None:
    """Refuse, before any content is prepared, what :func:`build_item_encoder` would refuse for every foundation model.

    Raises
    ------
    EncoderError
        If the method or one of its fields does not exist, or cannot serve here.
    """
    _encoder_of(peft_type).check_settings(peft_type, peft_config)


def _encoder_of(peft_type: str | None) -> type[ItemEncoder]:
    name = "NONE" if peft_type is None else str(peft_type).upper()
    return ENCODERS.get(name, PeftItemEncoder)  # which knows why a method cannot serve
