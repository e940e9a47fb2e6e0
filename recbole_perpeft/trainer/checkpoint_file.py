"""Checkpoint files: what was trained and where training stands, and whether that fits a run."""

import pickle
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path

import torch
from recbole.utils import get_local_time

from recbole_perpeft.config.identity import CHANGEABLE, PROTOCOL, differing
from recbole_perpeft.config.settings import shown
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.config.table import as_they_were
from recbole_perpeft.utils.errors import CheckpointError, MisfitError
from recbole_perpeft.utils.files import replacing

FORMAT = 6
_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_CHANGED = {
    "dataset hash": "The data set's files, or what is kept of them, are not those of then. A PerPEFT model can be put "
    "on those of now: by warm_start, by recommend --new_data, or by new_data=True in Python.",
    "content hash": "Titles or pictures, or what tokenizer and image processor make of them, are not those of then.",
    "encoder hash": "The encoder's weights or configuration are not those of then.",
}


def name_of(config) -> str:
    """Where a run that begins now writes its checkpoints: RecBole's name, with the data set in it."""
    name = f"{config['model']}-{config['dataset']}-{get_local_time()}.pth"
    return str(Path(config["checkpoint_dir"]) / name)


def write(file: str | Path, state: dict) -> None:
    """Write ``state`` to ``file`` so that a reader sees the old file or the new one, never a part.

    Raises
    ------
    CheckpointError
        If the file cannot be written (a full disk, say).
    """
    file = Path(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            torch.save({"format": FORMAT, "sources": sources_hash(), **state}, temporary)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"Checkpoint {file} cannot be written: {error}. The one written before it is whole. "
            "Free the disk or set checkpoint_dir."
        ) from error


def read(file: str | Path, device: torch.device | str = "cpu", holds: str = "settings") -> dict:
    """Read a checkpoint of a PerPEFT model; nothing in the file is executed.

    Parameters
    ----------
    holds
        A key that it must have: ``settings`` has that of a run, ``stage_1`` what was written for other runs.

    Raises
    ------
    CheckpointError
        If the file is missing, broken, or no checkpoint of this package.
    """
    if not Path(file).is_file():
        raise CheckpointError(f"Checkpoint {file} does not exist.")
    try:
        state = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds on a broken or foreign file
        # torch's advice for a file with other objects is to run their code
        foreign = isinstance(error, pickle.UnpicklingError)
        reason = "it holds more than tensors and plain values" if foreign else f"{type(error).__name__} {error}"
        reason = reason.partition("\n")[0].strip()
        raise CheckpointError(f"{file} is no checkpoint of a PerPEFT model, or is damaged: {reason}.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = f"format {state['format']}" if isinstance(state, dict) and "format" in state else "another file"
        raise CheckpointError(
            f"{file} is no checkpoint of this version of recbole_perpeft (format {FORMAT}, not {found}). Train "
            "again, or read it with the version that wrote it."
        )
    for part in (state, state.get("stage_1", {})):
        if "settings" in part:
            part["settings"] = as_they_were(part["settings"], ours=True)
    if holds not in state:
        raise CheckpointError(
            f"{file} holds no {holds}: it was written for another use (a run's checkpoint, or stage_1/)."
        )
    return state


def check_inputs(file: str | Path, saved: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Refuse a checkpoint of other data, other content or another encoder.

    Where the encoder lies does not matter, only what it computes: a folder may have moved since.

    Parameters
    ----------
    saved, present
        From :mod:`~recbole_perpeft.config.identity`.

    Raises
    ------
    MisfitError
        Names what differs, with both values.
    """
    keys = [key for key, value in present.items() if saved.get(key) != value and key != "encoder"]
    if keys:
        differences = "; ".join(f"{key}: {saved.get(key)} in the checkpoint, {present[key]} now" for key in keys)
        reasons = [_CHANGED[key] for key in keys if key in _CHANGED]
        if "encoder hash" in keys:
            reasons.append(f"Encoder then: {saved.get('encoder')}, now: {present['encoder']}.")
        if "precision" in keys:
            reasons.append(f"Set precision: {_PRECISIONS.get(saved.get('precision'), 'as it was')}.")
        raise MisfitError(
            f"Checkpoint {file} does not fit this run. {differences}. {' '.join(reasons)} Give back what it was made "
            "with, or train again without it."
        )


def check_settings(file: str | Path, saved: Mapping, present: Mapping, to_train: bool = True) -> list[str]:
    """Refuse a checkpoint of other settings, and name those that may differ.

    Parameters
    ----------
    saved, present
        Settings of the checkpoint and of the run.
    to_train
        Whether training goes on. If not, the model may be measured in another way than when it was trained.

    Returns
    -------
    list of str
        A sentence's part for each setting that may differ and does.

    Raises
    ------
    MisfitError
        Names the settings, with both values.
    """
    may_differ = CHANGEABLE if to_train else CHANGEABLE | PROTOCOL
    found = {
        key: f"{key}: {shown(then)} in the checkpoint, {shown(now)} now"
        for key, (then, now) in differing(saved, present).items()
    }
    refused = [sentence for key, sentence in found.items() if key not in may_differ]
    if refused:
        raise MisfitError(
            f"Checkpoint {file} does not fit this run. {'; '.join(refused)}. A checkpoint brings its own settings: "
            f"leave {'these' if refused[1:] else 'this'} out, or train again without it."
        )
    return list(found.values())


def check(file: str | Path, state: Mapping, settings: Mapping, inputs: Mapping[str, str], to_train: bool) -> None:
    """Refuse a checkpoint that does not fit a run; what differs and may is named in the log, another build too.

    Parameters
    ----------
    state
        Of the checkpoint: reads ``settings``, ``identity`` and ``sources``.
    settings, inputs
        Of the run; ``inputs`` from :mod:`~recbole_perpeft.config.identity`.
    to_train
        See :func:`check_settings`.

    Raises
    ------
    MisfitError
        Names what differs, with both values.
    """
    if named := check_settings(file, state["settings"], settings, to_train):
        getLogger().warning(f"Not as in {file}: {'; '.join(named)}.")
    check_inputs(file, state["identity"], inputs)
    saved = state.get("sources")
    if saved != sources_hash():
        getLogger().warning(
            f"{file} was written by another build of recbole_perpeft (sources {saved or 'unknown'}, now "
            f"{sources_hash()}): what differs between the two can change numbers."
        )
