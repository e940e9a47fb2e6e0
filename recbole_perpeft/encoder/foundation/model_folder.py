"""Find and load Hugging Face checkpoints, and refuse those that would give meaningless features."""

import contextlib
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from huggingface_hub import constants as hub
from transformers import MODEL_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from recbole_perpeft.utils.errors import EncoderError, first_line
from recbole_perpeft.utils.late_torch import know_shapes

know_shapes()  # transformers makes models without values first

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' progress bars and load reports; what matters in them is checked here."""
    verbosity = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def resolve_checkpoint(setting: str, name: str, search_folders: Sequence[str | Path] = ()) -> str:
    """Turn the value of a setting into a folder or a hub name.

    Parameters
    ----------
    setting : str
        The setting that holds the name, for the error messages.
    name : str
        A folder (absolute, relative to the working directory, or inside a search folder) or a hub name.
    search_folders : sequence of path, optional
        Folders to look in after the working directory.

    Returns
    -------
    str
        The path of a folder that has a ``config.json``, or the unchanged hub name.

    Raises
    ------
    EncoderError
        If the folder has no ``config.json``, or a path leads nowhere.
    """
    if not isinstance(name, str) or not name.strip():
        raise EncoderError(f"{setting}: {name!r} is no name. Give a hub name or the folder of a model.")
    path = Path(name).expanduser()
    folders = [folder for folder in (path, *(Path(base) / path for base in search_folders)) if folder.is_dir()]
    for folder in folders:
        if (folder / "config.json").is_file():
            return str(folder)
    if folders:
        raise EncoderError(
            f"{setting}: the folder {folders[0]} has no config.json. "
            "Give the folder that a model was saved in with save_pretrained."
        )
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        looked = ", ".join(str(base) for base in (Path.cwd(), *search_folders))
        raise EncoderError(
            f"{setting}: no folder {name!r} (looked in {looked}), and it is no hub name. Set {setting} to where the "
            "model's folder is now, or to a hub name such as openai/clip-vit-base-patch32."
        )
    return name


def load_config(setting: str, checkpoint: str) -> PreTrainedConfig:
    """Load the configuration of a resolved checkpoint.

    Raises
    ------
    EncoderError
        If it cannot be fetched or read, or transformers does not know the architecture.
    """
    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(checkpoint)
    except Exception as error:  # the hub client, json and transformers each raise their own kinds
        raise _unloadable(setting, checkpoint, error) from error


def model_class(setting: str, checkpoint: str, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class that transformers' ``AutoModel`` would build for a configuration.

    Raises
    ------
    EncoderError
        If there is none.
    """
    try:
        found = MODEL_MAPPING[type(config)]
    except KeyError:
        raise EncoderError(
            f"{setting}: {checkpoint} is of type {config.model_type!r}, for which transformers has no plain "
            "model. Choose a model that AutoModel loads."
        ) from None
    return found[0] if isinstance(found, tuple) else found


def load_model(
    setting: str, checkpoint: str, cls: type[PreTrainedModel], config: PreTrainedConfig, needs_pooler: bool
) -> tuple[PreTrainedModel, set[str]]:
    """Load the weights of a checkpoint in float32.

    Parameters
    ----------
    setting, checkpoint : str
        The setting and its resolved value.
    cls : type
        From :func:`model_class`.
    config : PreTrainedConfig
        From :func:`load_config`.
    needs_pooler : bool
        False builds no pooling layer where the architecture leaves the choice: classification checkpoints
        have none, and transformers would fill it with random numbers.

    Returns
    -------
    model : PreTrainedModel
        In eval mode.
    missing : set of str
        Names of parameters that the checkpoint did not fill.

    Raises
    ------
    EncoderError
        If the weights are absent, broken or of other shapes than the configuration says.
    """
    options = {}
    if not needs_pooler and "add_pooling_layer" in inspect.signature(cls.__init__).parameters:
        options["add_pooling_layer"] = False
    try:
        with quiet_transformers():
            model, report = cls.from_pretrained(
                checkpoint, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
    except Exception as error:  # safetensors, pickle, torch and the hub client each raise their own kinds
        raise _unloadable(setting, checkpoint, error) from error
    return model.eval(), set(report["missing_keys"])


def refuse_missing(setting: str, checkpoint: str, model: torch.nn.Module, missing: set[str]) -> None:
    """Refuse a model some of whose weights are random because the checkpoint has none for them.

    Raises
    ------
    EncoderError
        If a missing weight is still part of the model.
    """
    unfilled = sorted(missing & set(model.state_dict()))
    if unfilled:
        pooler = " Another pooling than 'pooler' does without it." if "pooler" in unfilled[0] else ""
        raise EncoderError(
            f"{setting}: {checkpoint} has no weights for {len(unfilled)} parameters of a "
            f"{type(model).__name__} ({', '.join(unfilled[:3])} …), which would stay random.{pooler} "
            "Give a checkpoint that was saved from this architecture."
        )


def _unloadable(setting: str, checkpoint: str, error: Exception) -> EncoderError:
    if Path(checkpoint).is_dir():
        return EncoderError(
            f"{setting}: the model in {checkpoint} cannot be loaded ({type(error).__name__}: "
            f"{first_line(error)}). Check that its files are complete, or download it again."
        )
    if hub.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE", "").upper() in {"1", "TRUE", "ON", "YES"}:
        reason = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, and it is not in the cache"
    elif "connect" in str(error):
        reason = "there is no connection to huggingface.co and it is not in the cache"
    else:
        reason = first_line(error)
    return EncoderError(
        f"{setting}: {checkpoint!r} is no folder here and cannot be loaded from the Hugging Face hub: "
        f"{reason}. Where there is a connection, run `hf download {checkpoint} --local-dir FOLDER`, "
        f"then set {setting}: FOLDER."
    )
