"""What tells one frozen model from another: its weights, and the settings that its features depend on."""

import hashlib
import json
from collections.abc import Iterable

import torch

# of a configuration: where it came from and how it was written
_NOT_OF_FEATURES = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}


def of_features(value: object) -> object:
    """A configuration, those within it included, without what no feature depends on."""
    if not isinstance(value, dict):
        return value
    return {key: of_features(inner) for key, inner in value.items() if key not in _NOT_OF_FEATURES}


def hash_of(weights: Iterable[tuple[str, torch.Tensor]], settings: list) -> str:
    """A hash over weights with their names, and over ``settings``, which JSON or ``str`` can write."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, weight in weights:
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
