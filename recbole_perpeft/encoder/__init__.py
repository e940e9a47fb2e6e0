"""Frozen foundation models, and what adapts them to each user group."""

from recbole_perpeft.encoder.factory import build_item_encoder, check_peft
from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.loading import load_foundation
from recbole_perpeft.encoder.foundation.precision import compute_dtype
from recbole_perpeft.encoder.iisan.encoder import SideNetworkItemEncoder
from recbole_perpeft.encoder.item_encoder import FrozenItemEncoder, ItemEncoder
from recbole_perpeft.encoder.peft.adapters import PeftItemEncoder
from recbole_perpeft.utils.errors import EncoderError

__all__ = [
    "EncoderError",
    "FoundationModel",
    "FrozenItemEncoder",
    "ItemEncoder",
    "PeftItemEncoder",
    "SideNetworkItemEncoder",
    "build_item_encoder",
    "check_peft",
    "compute_dtype",
    "load_foundation",
]
