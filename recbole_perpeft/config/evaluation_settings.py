"""How a run is evaluated: ``eval_args``, ``metrics``, ``topk`` and ``valid_metric``, completed and checked."""

import re
from collections.abc import Mapping

from recbole.data.dataset import Dataset
from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType, ModelType

from recbole_perpeft.config.metric_checks import check_metrics
from recbole_perpeft.utils.errors import SettingError

_PARTS = ("split", "order", "group_by", "mode")
_HELD_OUT = ("valid_and_test", "valid_only", "test_only")


def complete_evaluation(config) -> None:
    """Fill in what ``config`` leaves to defaults, part by part, and refuse what would fail after the first epoch.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config` under construction. Its ``eval_args`` get the parts that are not set;
        ``topk`` and ``metrics`` become lists; a ``valid_metric`` that is not set follows them.

    Raises
    ------
    SettingError
        Names the setting, its value and what is possible.
    """
    final = config.final_config_dict
    final["eval_args"] = _completed(final["eval_args"], config.internal_config_dict["eval_args"])
    _check_eval_args(config, final["eval_args"])
    final["topk"], final["metrics"] = _listed("topk", final["topk"]), _listed("metrics", final["metrics"])
    for k in final["topk"]:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise SettingError(f"topk: {k!r} is not possible: it must be a whole number from 1 up, or a list of them.")
    _say_topk_beyond_drawn(config)
    kind = _kind_of(final["metrics"])
    check_metrics(config)
    possible = _possible(final["metrics"], final["topk"], kind)
    if "valid_metric" not in config.external_config_dict and not _is_among(final["valid_metric"], possible):
        final["valid_metric"] = _following(final["valid_metric"], possible)
        config.remarks.append(f"valid_metric follows metrics and topk: {final['valid_metric']}.")
    _check_valid_metric(final["valid_metric"], possible, final)


def _say_topk_beyond_drawn(config) -> None:
    """Say of a k at which everybody's only target is found, whatever the model, that it is one."""
    final = config.final_config_dict
    if "LS" not in final["eval_args"]["split"]:
        return  # a user may have several targets, each with items drawn beside it
    for mode in dict.fromkeys(_modes(final["eval_args"]["mode"]).values()):
        ranked = int(mode[3:]) + 1 if mode[:3] in ("uni", "pop") else None
        if ranked is not None and max(final["topk"]) > ranked:
            config.remarks.append(
                f"topk: {max(final['topk'])} is more than the {ranked} items that mode: {mode} ranks for a user: "
                "every target is found, whatever the model."
            )


def check_topk_fits(config, dataset: Dataset) -> None:
    """Refuse a ``topk`` beyond the catalogue, which would fail in the first evaluation.

    Raises
    ------
    SettingError
        Names the number of items.
    """
    items = dataset.item_num - 1  # one is padding
    largest = max(config["topk"])
    if config["eval_type"] == EvaluatorType.RANKING and largest > items:
        raise SettingError(
            f"topk: {largest} is more than the {items} items of {config['dataset']}. Set at most {items}, and a "
            "valid_metric that goes with it."
        )


# -- eval_args ------------------------------------------------------------------------------------------------------


def _completed(given: object, defaults: Mapping) -> dict:
    """The parts of ``eval_args`` that were given, over the defaults; a split is replaced as a whole."""
    if not isinstance(given, Mapping):
        raise SettingError(f"eval_args: {given!r} is not possible: write {{{', '.join(f'{p}: …' for p in _PARTS)}}}.")
    for key in given:
        if key not in _PARTS:
            raise SettingError.unknown("part of eval_args", key, _PARTS)
    return {**defaults, **given}


def _check_eval_args(config, args: Mapping) -> None:
    _check_split(args["split"])
    if args["order"] not in ("TO", "RO"):
        raise SettingError.unknown("order in eval_args", args["order"], ("TO", "RO"))
    if args["order"] == "RO" and config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        raise SettingError(
            f"eval_args: order: RO is not possible with {config.model}: a sequence is split in the order of time. "
            "Set order: TO."
        )
    by = args["group_by"]
    if by not in (None, "user", "none"):
        raise SettingError.unknown("group_by in eval_args", by, ("user", "none"))
    if by != "user" and "TS" in args["split"]:
        raise SettingError(f"eval_args: group_by: {by or '~'} is not possible with split: TS. Set group_by: user.")
    for mode in _modes(args["mode"]).values():
        if not (isinstance(mode, str) and re.fullmatch(r"full|labeled|(uni|pop)[1-9]\d*", mode)):
            raise SettingError(
                f"eval_args: mode: {mode!r} is not possible: write full, labeled, uni100 or pop100 (100 or another "
                "number of sampled negatives)."
            )


def _check_split(split: object) -> None:
    ways = ("RS", "LS", *(["TS"] if hasattr(Dataset, "time_based_split") else []))  # RecBole 1.2.0 has no TS
    if not isinstance(split, Mapping) or len(split) != 1:
        raise SettingError(
            f"eval_args: split: {split!r} is not possible: write one way to split, such as {{LS: valid_and_test}} or "
            "{RS: [0.8, 0.1, 0.1]}."
        )
    ((way, value),) = split.items()
    if way not in ways:
        raise SettingError.unknown("split in eval_args", way, ways)
    if way == "LS":
        if value not in _HELD_OUT:
            raise SettingError.unknown("split LS in eval_args", value, _HELD_OUT)
        if value != "valid_and_test":
            lacking = "test" if value == "valid_only" else "validate"
            raise SettingError(
                f"eval_args: split: {{LS: {value}}} is not possible: it leaves no purchase to {lacking} on. Set LS: "
                "valid_and_test."
            )
    elif not (_is_three_shares(value)):
        raise SettingError(
            f"eval_args: split: {{{way}: {value!r}}} is not possible: write three shares above 0, for training, "
            "validation and test, such as [0.8, 0.1, 0.1]."
        )


def _is_three_shares(value: object) -> bool:
    numbers = isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    return numbers and len(value) == 3 and all(v > 0 for v in value)


def _modes(mode: object) -> dict:
    """The mode of validation and of test; one that is given alone holds for both, as in RecBole."""
    if not isinstance(mode, Mapping):
        return {"valid": mode, "test": mode}
    for key in mode:
        if key not in ("valid", "test"):
            raise SettingError.unknown("part of mode in eval_args", key, ("valid", "test"))
    return dict(mode) or {"valid": None}


# -- metrics --------------------------------------------------------------------------------------------------------


def _listed(key: str, value: object) -> list:
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values or None in values:
        raise SettingError(f"{key}: {'~' if value is None else value} is not possible: give at least one.")
    return values


def _kind_of(metrics: list) -> EvaluatorType:
    """Whether metrics look at ranks or at values: what the first does."""
    kinds = {}
    for metric in metrics:
        if str(metric).lower() not in metric_types:
            raise SettingError.unknown("metric in metrics:", metric, metric_types)
        kinds[metric_types[metric.lower()]] = metric
    return next(iter(kinds))


def _possible(metrics: list[str], topk: list[int], kind: EvaluatorType) -> list[str]:
    """Names of all results, ``NDCG@10`` or, of values, ``AUC``."""
    if kind == EvaluatorType.VALUE:
        return metrics
    by_rank = [metric for metric in metrics if metric.lower() != "gauc"]
    return [f"{metric}@{k}" for metric in by_rank for k in topk] + [m for m in metrics if m.lower() == "gauc"]


def _is_among(metric: object, possible: list[str]) -> bool:
    return str(metric).lower() in (name.lower() for name in possible)


def _following(metric: str, possible: list[str]) -> str:
    """The default's metric, or the first there is, at the first k."""
    name = metric.partition("@")[0].lower()
    return next((one for one in possible if one.partition("@")[0].lower() == name), possible[0])


def _check_valid_metric(metric: object, possible: list[str], final: Mapping) -> None:
    if _is_among(metric, possible):
        return
    name, _, k = str(metric).partition("@")
    if metric is None or name.lower() not in metric_types or (k and not k.isdigit()):
        raise SettingError(f"valid_metric: {'~' if metric is None else metric} is not possible: write {possible[0]}.")
    lacking = [] if name.lower() in (known.lower() for known in final["metrics"]) else [f"{name} to metrics"]
    lacking += [f"{k} to topk"] if k and int(k) not in final["topk"] else []
    kind, more = _kind_of(final["metrics"]), [int(k)] if k else []
    helps = metric_types[name.lower()] == kind and _is_among(metric, _possible([name], [*final["topk"], *more], kind))
    cure = f"Add {' and '.join(lacking)}, or set" if lacking and helps else "Set"
    raise SettingError(
        f"valid_metric: {metric} is none of what is measured (metrics: {final['metrics']}, topk: {final['topk']}). "
        f"{cure} {possible[0]}."
    )
