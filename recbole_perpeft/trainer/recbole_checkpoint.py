"""Checkpoints of RecBole's own models, which its trainers write with a pickled Config."""

import pickletools
import zipfile
from pathlib import Path

import torch

from recbole_perpeft.config.table import as_they_were
from recbole_perpeft.utils.errors import CheckpointError

_CONFIG_MODULES = ("recbole_perpeft.config.configurator", "recbole_perpeft.config")  # the second before 0.2


def is_recbole_checkpoint(file: str | Path) -> bool:
    """Whether RecBole's trainer wrote ``file`` in a run of this package; nothing in the file is executed."""
    try:
        return any(value in _CONFIG_MODULES for value in _values(file))
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile):  # no file of torch's
        return False


def model_named_in(file: str | Path) -> str:
    """The model whose checkpoint ``file`` is, which RecBole's trainer wrote; nothing in the file is executed."""
    values = _values(file)
    return values[values.index("model") + 1]


def _values(file: str | Path) -> list:
    """Arguments of the pickle's opcodes, in their order, so that a setting's value follows its name."""
    with zipfile.ZipFile(file) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    values, known = [], []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "MEMOIZE":
            known.append(values[-1])
        else:  # a value that has come before is named by its place
            is_known = opcode.name in ("BINGET", "LONG_BINGET") and argument < len(known)
            values.append(known[argument] if is_known else argument)
    return values


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
        settings = as_they_were(config.settings(), ours=False)
    except Exception as error:  # pickle raises whatever the pickled classes do
        raise CheckpointError(f"{file} cannot be read by this version of recbole_perpeft: {error}") from error
    known = dict(getattr(config, "identity", {}))
    return {"settings": settings, "sources": known.pop("sources", None), "identity": known}
