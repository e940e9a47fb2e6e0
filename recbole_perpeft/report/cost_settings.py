"""The sizes of a run from its settings."""

from pathlib import Path

import torch

from recbole_perpeft.config import Config
from recbole_perpeft.encoder.foundation.model_folder import load_config, resolve_checkpoint
from recbole_perpeft.encoder.foundation.precision import compute_dtype
from recbole_perpeft.encoder.shapes import LENGTH_STEP
from recbole_perpeft.report.cost_sizes import Sizes, Tower, tower_of

_PARTS = {"image": "vision_config", "text": "text_config"}  # of a dual encoder's config


def sizes_of(config: Config, items: int, users: int, purchases: int, title_tokens: int) -> tuple[Sizes, torch.dtype]:
    """Sizes of a run of ``config``, and what its encoder multiplies in.

    Parameters
    ----------
    items, users
        Of the catalogue, and who train.
    purchases
        Of each user in training.
    title_tokens
        Of a title.

    Raises
    ------
    EncoderError
        If an encoder is not found, or is no transformer.
    """
    dtype = compute_dtype(config["precision"], torch.device("cpu"))
    length = -(-title_tokens // LENGTH_STEP) * LENGTH_STEP  # as it is run
    towers = {modality: _tower(config, modality, length) for modality in config["modalities"]}
    settings = config.final_config_dict
    return Sizes(items, users, purchases, towers, settings, torch.finfo(dtype).bits // 8), dtype


def _tower(config: Config, modality: str, title_tokens: int) -> Tower:
    key = f"{modality}_encoder" if config["image_encoder"] or config["text_encoder"] else "encoder"
    folder = resolve_checkpoint(key, config[key], (Path(config["data_path"]),))
    whole = load_config(key, folder)
    own = getattr(whole, _PARTS[modality], whole)
    feature = None if own is whole else getattr(whole, "projection_dim", None)  # a single encoder's is not projected
    return tower_of(own, modality, title_tokens, feature, key)
