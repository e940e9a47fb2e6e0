"""Checkpoints of RecBole's own models, which its trainers write with a pickled Config."""

import zipfile
from pathlib import Path

import torch

from recbole_perpeft.errors import CheckpointError

_CONFIG = "recbole_perpeft.config.Config"


def is_recbole_checkpoint(file: str | Path) -> bool:
    """Whether RecBole's trainer wrote ``file`` in a run of this package; nothing in the file is executed."""
    if not Path(file).is_file() or not zipfile.is_zipfile(file):
        return False
    try:
        return _CONFIG in torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # torch raises many kinds on a broken or foreign file
        return False


def read_recbole_checkpoint(file: str | Path) -> dict:
    """Settings and identity in a checkpoint of one of RecBole's own models.

    The file is a pickle, which can run any code when it is read: give it only files that you wrote or trust.

    Returns
    -------
    dict
        ``settings``, ``identity`` (empty in files of before there was one) and ``sources``, as in our own.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    try:
        config = torch.load(file, map_location="cpu", weights_only=False)["config"]
        settings = config.settings()
    except Exception as error:  # pickle raises whatever the pickled classes do
        raise CheckpointError(f"{file} cannot be read by this version of recbole_perpeft: {error}") from error
    known = dict(getattr(config, "identity", {}))
    return {"settings": settings, "sources": known.pop("sources", None), "identity": known}
