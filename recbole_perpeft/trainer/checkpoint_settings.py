"""From the settings in a checkpoint to those of a run."""

from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.config import Config
from recbole_perpeft.config.settings import known_settings, merge_settings


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
    SettingError
        As Config.
    """
    unknown = saved.keys() - known_settings().keys()
    known = {key: value for key, value in saved.items() if key not in unknown and key != "resume"}
    config = kind(model, dataset, config_dict=merge_settings(known, given or {}), command_line=command_line)
    if unknown:
        names = ", ".join(sorted(unknown))
        config.remarks.insert(0, f"{file} has settings that this build does not know: {names}.")
    return config
