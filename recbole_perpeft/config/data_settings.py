"""Settings about the data that cannot act together, refused before anything is loaded."""

import re

from recbole.utils import InputType, ModelType

from recbole_perpeft.config.load_columns import check_columns_settings, reads_labels, samples_negatives
from recbole_perpeft.config.registry import is_perpeft
from recbole_perpeft.utils.errors import SettingError

_NUMBER = r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+|inf)\s*"
_INTERVAL = re.compile(rf"\s*[\[(]{_NUMBER},{_NUMBER}[\])]\s*")
_INTERVALS = (
    "user_inter_num_interval",
    "item_inter_num_interval",
    "entity_kg_num_interval",
    "relation_kg_num_interval",
)
_FILTERS = (
    "rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval", "user_sample", "cold_items"
)  # fmt: skip
_SPLIT = ("split", "order", "group_by")


def check_data_settings(config) -> None:
    """Refuse what RecBole would pass over in silence, or fail on after loading.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config` whose ``eval_args`` are complete.

    Raises
    ------
    SettingError
        Names the setting, its value and what to set instead.
    """
    check_columns_settings(config)
    for key in _INTERVALS:
        if config[key] is not None:
            check_interval(key, config[key])
    if config["rm_dup_inter"] not in (None, "first", "last"):
        raise SettingError.unknown("rm_dup_inter", config["rm_dup_inter"], ("first", "last", "~"))
    modes = set(config["eval_args"]["mode"].values())
    if config["cold_items"] and modes != {"full"}:
        raise SettingError(
            f"cold_items: {config['cold_items']} is not possible with eval_args: mode: {', '.join(sorted(modes))}: "
            "cold items are ranked among all cold items. Set mode: full, or cold_items: ~."
        )
    if config["benchmark_filename"] is not None:
        _check_parts(config)
    else:
        _check_order(config)
    if config["threshold"] and _given(config, "threshold"):
        _check_threshold(config)


def check_interval(key: str, value: object) -> None:
    """Refuse what is no interval: RecBole warns of it, then keeps everything, or drops a purchase by chance.

    Raises
    ------
    SettingError
        With an example.
    """
    if not all(_INTERVAL.fullmatch(part) for part in str(value).split(";")):
        raise SettingError(f"{key}: {value!r} is no interval: write '[5,inf)' for 5 and up, or '[3,4];[6,6]'.")


def _check_order(config) -> None:
    args = config["eval_args"]
    if args.get("order") == "RO" and "TS" in (args.get("split") or {}):
        raise SettingError("eval_args: order: RO is not possible with split: TS, which is by time. Set order: TO.")


def _check_parts(config) -> None:
    parts = config["benchmark_filename"]
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        return  # refused with the data set
    if not (isinstance(parts, list) and len(parts) == 3):
        raise SettingError(
            f"benchmark_filename: {parts} must name three parts, for training, validation and test, as in "
            "['train','valid','test']."
        )
    for key in _FILTERS:
        if config[key] and _given(config, key):
            raise SettingError(
                f"{key}: {config[key]} has no effect with benchmark_filename: {parts}, whose files are taken as they "
                f"are. Leave {key} out, or apply it when the files are made."
            )
    given, default = (values.get("eval_args") or {} for values in _sources(config))
    for key in _SPLIT:
        if given.get(key) is not None and given[key] != default.get(key):
            raise SettingError(
                f"eval_args: {key}: {given[key]} has no effect with benchmark_filename: {parts}, whose files are the "
                "split. Leave it out, or leave benchmark_filename out."
            )


def _check_threshold(config) -> None:
    """Labels are read by models of clicks only; everywhere else a purchase is a purchase."""
    threshold = config["threshold"]
    if not (isinstance(threshold, dict) and len(threshold) == 1):
        raise SettingError(f"threshold: {threshold!r} must be one column and a number, as in {{rating: 4}}.")
    if reads_labels(config):
        return
    ours = is_perpeft(config.model_class)
    pointwise = config["MODEL_INPUT_TYPE"] == InputType.POINTWISE and config["loss_type"] != "CE"
    if not ours and pointwise and not samples_negatives(config):
        return
    ((column, value),) = threshold.items()
    raise SettingError(
        f"threshold: {threshold} has no effect on {config['model']}: it makes labels, which are not read here, where "
        f"every purchase counts. To keep those of {column} {value} and up, set "
        f"--val_interval=\"{{{column}: '[{value},inf)'}}\"."
    )


def _given(config, key: str) -> bool:
    """Whether ``key`` was set to something else than its default."""
    given, default = _sources(config)
    return key in given and given[key] != default.get(key)


def _sources(config) -> tuple[dict, dict]:
    return config.external_config_dict, config.internal_config_dict
