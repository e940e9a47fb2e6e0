"""What identifies a result: the data, the content, the encoder, and every setting that can change a number.

A setting counts unless the table of settings calls it a place, so that a new one counts from its first day.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch

from recbole_perpeft.config.table import Kind, of_kind

PLACES, CHANGEABLE, PROTOCOL = of_kind(Kind.PLACE), of_kind(Kind.CHANGEABLE), of_kind(Kind.PROTOCOL)

_MISSING = object()


def data_hash(dataset) -> str:
    """A hash over all that RecBole has loaded: ids, purchases in their order, and columns of users and items.

    Parameters
    ----------
    dataset
        A RecBole dataset that is not split yet.
    """
    digest = hashlib.sha256()
    for field, tokens in sorted(dataset.field2id_token.items()):
        digest.update(f"{field}:{len(tokens)}".encode())
        digest.update("\0".join(map(str, tokens)).encode("utf-8", "surrogatepass"))
    graphs = [name for name in ("kg_feat", "net_feat") if getattr(dataset, name, None) is not None]
    for name in sorted([*dataset.feat_name_list, *graphs]):
        for column, values in sorted(_columns(getattr(dataset, name)).items()):
            digest.update(f"{name}.{column}:{len(values)}".encode())
            _update(digest, values)
    return digest.hexdigest()[:16]


def _columns(feat) -> dict:
    return {str(column): feat[column] for column in feat.columns}


def _update(digest, values) -> None:
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if isinstance(values, torch.Tensor):
        values = values.numpy()
    if values.dtype == object:  # a list for each row
        for value in values:
            _update(digest, np.asarray(value)) if np.ndim(value) else digest.update(f"{value}\0".encode())
    else:
        digest.update(f"{values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())


def data_identity(config, dataset) -> dict[str, str]:
    """What a checkpoint must meet again of the data.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config`.
    dataset
        A RecBole dataset that is not split yet.
    """
    return {
        "dataset": f"{config['dataset']} ({dataset.user_num - 1} users, {dataset.item_num - 1} items)",
        "dataset hash": data_hash(dataset),
    }


def encoder_identity(encoder) -> dict[str, str]:
    """The same of what a model that reads content has not trained: content and ``encoder``."""
    return {
        "content hash": encoder.content.hash,
        "encoder": encoder.foundation.name,
        "encoder hash": encoder.foundation.fingerprint(),
        "precision": str(encoder.item_features.dtype).removeprefix("torch."),
    }


def counting(settings: Mapping) -> dict:
    """Those of ``settings`` that can change a number."""
    return {key: value for key, value in settings.items() if key not in PLACES}


def differing(saved: Mapping, present: Mapping) -> dict[str, tuple]:
    """Settings that both have and that count, with both values where these differ."""
    found = {key: (saved.get(key, _MISSING), value) for key, value in counting(present).items()}
    return {key: both for key, both in sorted(found.items()) if _MISSING not in both and not _same(*both)}


def _same(one: object, other: object) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other
