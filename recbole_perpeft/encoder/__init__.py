"""Frozen foundation models, and what adapts them to each user group."""

from recbole_perpeft.encoder.adapters import PeftItemEncoder
from recbole_perpeft.encoder.build import build_item_encoder, check_peft
from recbole_perpeft.encoder.errors import EncoderError
from recbole_perpeft.encoder.foundation import load_foundation
from recbole_perpeft.encoder.foundation_model import FoundationModel
from recbole_perpeft.encoder.iisan import SideNetworkItemEncoder
from recbole_perpeft.encoder.item_encoder import FrozenItemEncoder, ItemEncoder
from recbole_perpeft.encoder.precision import compute_dtype

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
