"""Checkpoints: what was trained, where training stands, and the identity of what was not trained."""

import hashlib
import os
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

import torch

from recbole_perpeft.errors import CheckpointError

FORMAT = 5


def identity(config, dataset, model) -> dict[str, str]:
    """What a checkpoint must meet again to make sense: data set, encoder, and the shape of what is trained.

    Parameters
    ----------
    dataset
        The training part.
    model
        A PerPEFT model.
    """
    digest = hashlib.sha256()
    for field in (dataset.uid_field, dataset.iid_field):
        digest.update("\0".join(map(str, dataset.field2id_token[field])).encode())
    for user, items in dataset.sequences.items():
        digest.update(f"{user}:{','.join(map(str, items.tolist()))};".encode())
    encoder = model.item_tower.encoder
    return {
        "model": config["model"],
        "dataset": f"{config['dataset']} ({dataset.user_num - 1} users, {dataset.item_num - 1} items)",
        "dataset hash": digest.hexdigest(),
        "encoder": encoder.foundation.name,
        "encoder hash": encoder.foundation.fingerprint(),
        "modalities": ", ".join(encoder.foundation.modalities),
        "peft_type": str(config["peft_type"]).upper(),
        "peft_config": str(config["peft_config"]),
        "peft_layers": str(config["peft_layers"]),
        "num_groups": str(config["num_groups"]),
        "personalised_by": config["personalised_by"],
    }


def reserve(file: str | Path) -> Path:
    """``file``, created empty, or a name beside it where another run, that began in the same second, has it already."""
    file = Path(file)
    with suppress(OSError):  # of which the write that follows reports, as of all that is no name in use
        file.parent.mkdir(parents=True, exist_ok=True)
    for name in chain([file], (file.with_name(f"{file.stem}-{number}{file.suffix}") for number in count(2))):
        try:
            name.touch(exist_ok=False)
        except FileExistsError:
            continue
        except OSError:
            pass
        return name


def write(file: str | Path, state: dict) -> None:
    """Write ``state`` to ``file`` so that a reader sees the old file or the new one, never a part.

    Raises
    ------
    CheckpointError
        If the file cannot be written (a full disk, say).
    """
    file = Path(file)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"format": FORMAT, **state}, temporary)
        os.replace(temporary, file)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"Checkpoint {file} cannot be written: {error}. The one written before it is whole. "
            "Free the disk or set checkpoint_dir."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


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
        raise CheckpointError(f"{file} is no checkpoint of a PerPEFT model, or is damaged: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{file} is no checkpoint of this version of recbole_perpeft (format {FORMAT}).")
    if holds not in state:
        raise CheckpointError(
            f"{file} holds no {holds}: it was written for another use (a run's checkpoint, or stage_1/)."
        )
    return state


def check_identity(file: str | Path, saved: dict[str, str], present: dict[str, str]) -> None:
    """Refuse a checkpoint of other data, another encoder or another shape.

    Where the encoder lies does not matter, only its weights: a folder may have moved since.

    Raises
    ------
    CheckpointError
        Names what differs, with both values.
    """
    differing = [
        f"{key}: {saved.get(key)} in the checkpoint, {value} now"
        for key, value in present.items()
        if saved.get(key) != value and key != "encoder"
    ]
    if differing:
        encoders = f" (encoder: {saved.get('encoder')} then, {present['encoder']} now)"
        raise CheckpointError(f"Checkpoint {file} does not fit this run. {'; '.join(differing)}{encoders}.")
