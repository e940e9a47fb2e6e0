"""Frozen foundation models, and what adapts them to each user group."""

from typing import TYPE_CHECKING

from recbole_perpeft.utils.errors import EncoderError
from recbole_perpeft.utils.late_imports import late_imports

if TYPE_CHECKING:
    from recbole_perpeft.encoder.factory import build_item_encoder, check_peft
    from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
    from recbole_perpeft.encoder.foundation.loading import load_foundation
    from recbole_perpeft.encoder.foundation.precision import compute_dtype
    from recbole_perpeft.encoder.given_features import check_given
    from recbole_perpeft.encoder.iisan.encoder import SideNetworkItemEncoder
    from recbole_perpeft.encoder.item_encoder import FrozenItemEncoder, ItemEncoder
    from recbole_perpeft.encoder.peft.adapters import PeftItemEncoder

_MODULES = {  # which wait for transformers and peft
    "FoundationModel": "foundation.foundation_model",
    "FrozenItemEncoder": "item_encoder",
    "ItemEncoder": "item_encoder",
    "PeftItemEncoder": "peft.adapters",
    "SideNetworkItemEncoder": "iisan.encoder",
    "build_item_encoder": "factory",
    "check_given": "given_features",
    "check_peft": "factory",
    "compute_dtype": "foundation.precision",
    "load_foundation": "foundation.loading",
}
__getattr__ = late_imports(__name__, _MODULES)

__all__ = [
    "EncoderError",
    "FoundationModel",
    "FrozenItemEncoder",
    "ItemEncoder",
    "PeftItemEncoder",
    "SideNetworkItemEncoder",
    "build_item_encoder",
    "check_given",
    "check_peft",
    "compute_dtype",
    "load_foundation",
]
