"""From a checkpoint alone to a run that goes on, and from a run that ends before its time to the command for that."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path

from recbole.trainer import Trainer

from recbole_perpeft.config import Config
from recbole_perpeft.config.registry import is_perpeft, reads_content
from recbole_perpeft.config.settings import merge_settings, parse_value, read_settings_files
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer.checkpoint_settings import config_of
from recbole_perpeft.trainer.recbole_checkpoint import is_recbole_checkpoint, read_recbole_checkpoint
from recbole_perpeft.trainer.trainer import PerPEFTTrainer
from recbole_perpeft.trainer.warm_start import starting_config
from recbole_perpeft.utils.errors import CheckpointError, SettingError


def make_config(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: dict | None = None,
    command_line: Sequence[str] = (),
) -> Config:
    """The settings of a run; with ``resume`` or ``warm_start``, those of the checkpoint with what is given besides.

    Parameters
    ----------
    model, dataset, config_file_list, config_dict, command_line
        As for :class:`~recbole_perpeft.config.Config`.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read, or is of other settings.
    SettingError
        As Config.
    """
    given = merge_settings(read_settings_files(config_file_list or []), config_dict or {})
    file, start = (_file_in(key, given, command_line) for key in ("resume", "warm_start"))
    if file and start:
        raise SettingError(
            f"resume: {file} and warm_start: {start} exclude each other: resume goes on with a run, warm_start begins "
            "one. Leave one out."
        )
    if start:
        return starting_config(start, given, model, dataset, command_line)
    if not file:
        return Config(model, dataset, config_file_list, config_dict, command_line)
    saved = read_state(file)["settings"]
    asked = {"model": model or given.get("model"), "dataset": dataset or given.get("dataset")}
    names = {key: getattr(name, "__name__", name) for key, name in asked.items() if name}
    checkpoint_file.check_settings(file, saved, names)
    config = config_of(saved, file, given, model, dataset, command_line)
    checkpoint_file.check_settings(file, saved, config.settings())
    return config


def _file_in(key: str, given: dict, command_line: Sequence[str]) -> str | None:
    words = [word.partition("=")[2] for word in command_line if word.startswith(f"--{key}=")]
    return parse_value(key, words[-1]) if words else given.get(key)


def read_state(file: str | Path) -> dict:
    """What a checkpoint holds, of our models or of RecBole's; at least ``settings``, ``identity`` and ``sources``.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    return read_recbole_checkpoint(file) if is_recbole_checkpoint(file) else checkpoint_file.read(file)


def resume(trainer: Trainer, file: str | Path, to_train: bool = True) -> None:
    """Put ``trainer`` where a checkpoint stands; RecBole's go on from their best epoch.

    Parameters
    ----------
    to_train
        Whether training goes on; else the model may be measured in another way than when it was trained.

    Raises
    ------
    CheckpointError
        If it cannot be read, or does not fit.
    """
    if is_perpeft(trainer.config.model_class):
        trainer.resume_checkpoint(file, to_train)
        return
    state, inputs = read_state(file), trainer.config.identity
    if not state["identity"]:
        getLogger().warning(f"{file} does not tell which data it was made with: an older build wrote it.")
    known = {key: value for key, value in inputs.items() if key in state["identity"]}
    checkpoint_file.check(file, state, trainer.config.settings(), known, to_train)
    if to_train and not reads_content(trainer.config.model_class):  # which have nothing to train
        getLogger().warning(
            f"{trainer.config['model']} goes on from its best epoch, all that RecBole keeps, with other draws: "
            "it does not end as a run that was never interrupted."
        )
    try:
        trainer.resume_checkpoint(file)
    except ValueError as error:  # of the optimiser's state, which comes after the model's: RecVAE trains with two
        if to_train:
            raise CheckpointError(
                f"{file} cannot be trained on from: the state that RecBole wrote for {trainer.config['model']}'s "
                f"optimiser does not fit it ({error}). It can be loaded and measured; train again without it."
            ) from error


def keep_in(trainer: PerPEFTTrainer, file: str | Path) -> None:
    """Let ``trainer`` write its checkpoints to ``file``, and go on with the one that it holds, if it is there.

    Raises
    ------
    CheckpointError
        If it cannot be read, or does not fit.
    """
    if Path(file).is_file():
        trainer.resume_checkpoint(file)
    else:
        trainer.checkpoint.file, trainer.checkpoint.has_file = str(file), True


def written_checkpoint(trainer: Trainer) -> str | None:
    """The checkpoint that ``trainer`` has written or goes on from; None if there is none."""
    file = Path(trainer.saved_model_file)
    if isinstance(trainer, PerPEFTTrainer) and not trainer.checkpoint.has_file:
        return None
    # of RecBole's trainers every file of that name is their own
    return str(file) if file.is_file() and file.stat().st_size else None


@contextmanager
def naming_checkpoint(trainer: Trainer) -> Iterator[None]:
    """Whatever ends a training before its time gets a note with the command that goes on from its checkpoint."""
    try:
        yield
    except BaseException as error:
        if file := written_checkpoint(trainer):
            error.add_note(f"To go on from its checkpoint: python run_recbole_perpeft.py --resume={shlex.quote(file)}")
        raise
