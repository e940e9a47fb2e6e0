"""Values of settings that are possible."""

import importlib.util
import math
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from recbole.utils import ModelType

from recbole_perpeft.config.choices import BY_USER, SHARED, registered
from recbole_perpeft.config.load_columns import check_load_col
from recbole_perpeft.config.registry import reads_content
from recbole_perpeft.config.settings import known_settings
from recbole_perpeft.config.table import SETTINGS, Setting, values_of
from recbole_perpeft.utils.errors import SettingError

_TRANSFORMS = {  # of sequences, with the shares that each reads
    "mask_itemseq": ("mask_ratio", "ft_ratio"),
    "inverse_itemseq": (),
    "crop_itemseq": ("eta",),
    "reorder_itemseq": ("beta",),
    "user_defined": (),
}
_OF_NEGATIVES = ("distribution", "sample_num", "alpha", "dynamic", "candidate_num")

# whatever fails deep inside with something else
_TEXTS = ("encoder", "image_encoder", "text_encoder", "text_template", "image_field", "image_dir", "content_cache")
_LAST_SEED = 2**32 - 1  # numpy's


def check_values(config, is_ours: bool) -> None:
    """Refuse values that would fail hours later, or deep inside torch; fill in what follows from others.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config`.
    is_ours
        Whether its model is one of this package.

    Raises
    ------
    SettingError
        Names the setting, its value and what is possible.
    """
    own = config.internal_config_dict if reads_content(config.model_class) else {}
    if isinstance(config["modalities"], str):
        config["modalities"] = [config["modalities"]]
    for key, setting in SETTINGS.items():
        if key in config and (setting.any_model or is_ours or key in own):
            _check_possible(key, setting, config[key], config.internal_config_dict.get(key))
    _check_any(config)
    if is_ours:
        _check_ours(config)
    else:
        _check_built_in(config)


def _check_possible(key: str, setting: Setting, value: object, default: object) -> None:
    """Refuse a value that the table of settings does not have."""
    possible, names = setting.possible, values_of(key)
    # RecBole's logger takes a state of ~ for info
    none_is_possible = not setting.alone and (names is None or default is None or key == "state")
    if possible is None or (value is None and none_is_possible):
        return
    if value == [] and setting.type is list:
        raise SettingError(f"{key}: [] is not possible: name at least one.")
    if names is not None:
        for name in value if setting.type is list and isinstance(value, list) else [value]:
            if (str(name).lower() if setting.any_case else name) not in names:
                raise SettingError.unknown(key, name, names)
        return
    # Some of RecBole's own models have a list of numbers here, such as a width a layer
    for number in value if isinstance(value, list) and isinstance(default, list) else [value]:
        if number not in possible:
            expanded = number == str(Path.home()) and _may_be_none(key)
            unquoted = f" The shell put it in place of a ~: write '{key}=~'." if expanded else ""
            raise SettingError(f"{key}: {number!r} is not possible: it must be {possible}.{unquoted}")


def check_seed(key: str, seed: object) -> None:
    """Refuse what cannot seed numpy, torch and scikit-learn alike.

    Raises
    ------
    SettingError
        Names the setting ``key``.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _LAST_SEED:
        raise SettingError(f"{key}: {_shown(seed)} is not possible: it must be a whole number from 0 to {_LAST_SEED}.")


def _check_any(config) -> None:
    """What holds for RecBole's own models too."""
    check_seed("seed", config["seed"])
    check_seed("sample_seed", config["sample_seed"])
    for key in config.external_config_dict.keys() & config.final_config_dict.keys():
        _check_type(key, config[key], config.internal_config_dict.get(key))
    if config["epochs"] == 0 and not config["warm_start"]:
        raise SettingError("epochs: 0 is not possible: set 1 or more (with warm_start 0 scores the checkpoint alone).")
    for key in ("checkpoint_dir", "data_path"):
        if not isinstance(config[key], str):
            raise SettingError(f"{key}: {_shown(config[key])} is not possible: it must name a folder.")
    gpus = config["gpu_id"]
    listed = ",".join(map(str, gpus)) if isinstance(gpus, list | tuple) else str(gpus)
    if not re.fullmatch(r"(-1|\s*\d+\s*(,\s*\d+\s*)*)?", listed):
        raise SettingError(f"gpu_id: {gpus!r} is not possible: write the number of a GPU, such as 0, or 0,1.")
    check_load_col(config)
    clip = config["clip_grad_norm"]
    known = {"max_norm", "norm_type", "error_if_nonfinite"}
    if clip and not (isinstance(clip, dict) and _is_number(clip.get("max_norm")) and clip.keys() <= known):
        raise SettingError(f"clip_grad_norm: {clip} is not possible: write {{max_norm: 1.0}}.")
    if config["log_wandb"] and importlib.util.find_spec("wandb") is None:
        raise SettingError("log_wandb: True needs a package that is not installed: pip install wandb, or set False.")
    _check_shape(config)
    _check_transform(config)


def _check_transform(config) -> None:
    """Refuse a transform that would fail in the first batch, and say of one that no model's code reads."""
    chosen, default = config["transform"], config.internal_config_dict.get("transform")
    if chosen is not None and chosen not in _TRANSFORMS:
        raise SettingError.unknown("transform", chosen, (*_TRANSFORMS, "~"))
    if default is not None and chosen != default:
        raise SettingError(f"transform: {_shown(chosen)} is not possible with {config.model}, which reads {default}.")
    if chosen is None:
        return
    for key in _TRANSFORMS[chosen]:
        if not (_is_number(config[key]) and 0 <= config[key] <= 1):
            raise SettingError(f"{key}: {_shown(config[key])} is not possible with transform: {chosen}: set 0 to 1.")
    length = config["MAX_ITEM_LIST_LENGTH"]
    if chosen == "mask_itemseq" and int(config["mask_ratio"] * length) < 1:
        raise SettingError(
            f"mask_ratio: {config['mask_ratio']} is not possible with MAX_ITEM_LIST_LENGTH: {length}: it must mask a "
            f"purchase of a full sequence. Set it to {math.ceil(100 / length) / 100} or more, or allow longer ones."
        )
    if chosen != default and chosen != "user_defined":
        config.remarks.append(
            f"transform: {chosen} has no effect on {config.model}, which does not read what it makes."
        )


def _check_type(key: str, value: object, default: object) -> None:
    """Refuse a value of another kind than the default's, which would fail deep inside."""
    if isinstance(default, bool):
        fits, kind = isinstance(value, bool), "True or False"
    elif isinstance(default, int | float):
        fits = (value is None and _may_be_none(key)) or (_is_number(value) and math.isfinite(value))
        kind = "a number"
        if fits and "dropout" in key and value is not None:
            fits, kind = 0 <= value <= 1, "a number from 0 to 1"
    elif isinstance(default, list) and not (key in SETTINGS and SETTINGS[key].alone):
        fits, kind = value is None or isinstance(value, list | tuple), f"a list, such as [{value}]"
    elif key in _TEXTS:
        fits, kind = value is None or isinstance(value, str | PathLike), "a text"
    else:
        return
    if not fits:
        raise SettingError(f"{key}: {_shown(value)} is not possible: it must be {kind}.")


def _may_be_none(key: str) -> bool:
    return known_settings().get(key) is None or (key in SETTINGS and SETTINGS[key].none)


def _check_built_in(config) -> None:
    """What RecBole checks after the data are loaded, or in the first step."""
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL and not hasattr(config.model_class, "input_type")
    if sequential and config["loss_type"] not in ("BPR", "CE"):
        raise SettingError.unknown("loss_type", config["loss_type"], ("BPR", "CE"))
    negatives = config["train_neg_sample_args"]
    if negatives in (None, "None"):
        return
    if not isinstance(negatives, Mapping):
        raise SettingError(
            f"train_neg_sample_args: {negatives!r} is not possible: write {{distribution: uniform, sample_num: 1}}."
        )
    for key in negatives:
        if key not in _OF_NEGATIVES:
            raise SettingError.unknown("part of train_neg_sample_args", key, _OF_NEGATIVES)
    drawn, number = negatives.get("distribution", "uniform"), negatives.get("sample_num", 1)
    if drawn not in ("uniform", "popularity", "none", "None", None):
        raise SettingError.unknown("distribution in train_neg_sample_args", drawn, ("uniform", "popularity", "none"))
    if number not in ("none", "None", None) and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise SettingError(f"train_neg_sample_args: sample_num: {number!r} is not possible: set a whole number from 1.")


def _check_shape(config) -> None:
    """Attention splits a hidden state among its heads, and reads the last of its layers."""
    heads = config["n_heads"]
    if not heads or "n_heads" not in config.internal_config_dict:
        return
    if config["n_layers"] == 0:
        raise SettingError("n_layers: 0 is not possible: it must be a whole number from 1 up.")
    width = "hidden_size" if "hidden_size" in config.internal_config_dict else "embedding_size"
    if config[width] % heads:
        raise SettingError(
            f"n_heads: {heads} is not possible with {width}: {config[width]}, which it must divide without a rest."
        )


def _check_ours(config) -> None:
    """What holds for models of this package."""
    model_class = config.model_class
    loss, possible = config["loss_type"], model_class.possible_losses()
    if possible and (not isinstance(loss, str) or loss not in registered("loss_type")):
        raise SettingError.unknown("loss_type", loss, possible)
    if possible and loss not in possible:
        raise SettingError(
            f"loss_type: {loss} is not possible with {config.model}, whose loss is {' or '.join(possible)}."
        )
    stride, length = config["sequence_stride"], config["MAX_ITEM_LIST_LENGTH"]
    if stride and model_class.shares_passes and stride > length:
        raise SettingError(
            f"sequence_stride: {stride} is not possible with MAX_ITEM_LIST_LENGTH: {length}: sequences that begin "
            f"further apart than they are long leave purchases out. Set it to at most {length}."
        )
    negatives = model_class.negatives_with(config["loss_type"])
    if negatives not in (SHARED, None) and not config["num_negatives"]:
        value = "~" if config["num_negatives"] is None else 0
        raise SettingError(
            f"num_negatives: {value} is not possible with loss_type: {config['loss_type'] or '~'}. Set 1 or more."
        )
    by_user = config["personalised_by"] in BY_USER
    if config["regroup_epochs"] and by_user:
        raise SettingError(
            f"regroup_epochs: {config['regroup_epochs']} is not possible with personalised_by: "
            f"{config['personalised_by']}: groups see items alike. Set it to ~, or personalise by group."
        )
    if model_class.whole_table and by_user:
        raise SettingError(
            f"personalised_by: {config['personalised_by']} is not possible with {config.model}, which needs all "
            "items in every step. Personalise by group."
        )
    if config["num_negatives"] is None and by_user:
        raise SettingError(
            f"num_negatives: ~ is not possible with personalised_by: {config['personalised_by']}, which would need "
            "every item once for each user of a batch. Set 1 or more."
        )
    if config["content_weight"] == 0:  # no module of the encoder would have a gradient: none is trained
        config["peft_type"] = "NONE"
    only_epochs = "epochs" in config.external_config_dict and "global_epochs" not in config.external_config_dict
    if config["global_epochs"] is None or only_epochs:
        config["global_epochs"] = -(-config["epochs"] // 2)
    if config["global_epochs"] > config["epochs"]:
        raise SettingError(
            f"global_epochs: {config['global_epochs']} is more than epochs: {config['epochs']}. epochs counts all "
            f"stages, so set epochs to at least {config['global_epochs']}."
        )


def _shown(value: object) -> str:
    return "~" if value is None else repr(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
