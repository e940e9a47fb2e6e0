"""From the settings in a checkpoint to those of a run."""

from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.config import Config
from recbole_perpeft.config.settings import known_settings, merge_settings
from recbole_perpeft.config.table import SCORED_BY
from recbole_perpeft.utils.errors import CheckpointError


def config_of(
    saved: dict,
    file: str | Path,
    given: dict | None = None,
    model: str | type | None = None,
    dataset: str | None = None,
    command_line: Sequence[str] = (),
    kind: type[Config] = Config,
) -> Config:
    """The settings of a checkpoint with what is ``given`` besides; those that this build does not know are a remark.

    Parameters
    ----------
    saved
        The settings in ``file``.
    given, model, dataset, command_line
        As for :class:`~recbole_perpeft.config.Config`; they go before those of the checkpoint.
    kind
        What is made of them.

    Raises
    ------
    CheckpointError
        If it scored by a setting that is gone.
    SettingError
        As Config.
    """
    for key, without in SCORED_BY.items():
        if saved.get(key, without) != without:
            raise CheckpointError(
                f"{file} was made with {key}: {saved[key]}, which is gone: this build would give other scores. Open it "
                "with the build that wrote it, or train again."
            )
    known = {key: value for key, value in saved.items() if key in known_settings() and key != "resume"}
    unknown = saved.keys() - known_settings().keys() - SCORED_BY.keys()
    config = kind(model, dataset, config_dict=merge_settings(known, given or {}), command_line=command_line)
    if unknown:
        names = ", ".join(sorted(unknown))
        config.remarks.insert(0, f"{file} has settings that this build does not know: {names}.")
    return config
