"""Which metrics can be computed in which kind of evaluation."""

from recbole.evaluator.register import metric_types
from recbole.utils import EvaluatorType

from recbole_perpeft.utils.errors import SettingError

OF_PROBABILITIES = ("logloss", "mae", "rmse")  # compare a score with a label of 0 or 1


def check_metrics(config) -> None:
    """Refuse metrics that the evaluation of ``eval_args`` cannot give.

    Metrics of rankings (NDCG, GAUC, ItemCoverage and so on) need items to rank. Metrics of values (AUC, LogLoss, MAE,
    RMSE) judge scores one by one against labels.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config` whose ``metrics`` are a list of known ones.

    Raises
    ------
    SettingError
        Names the setting, its value and what is possible.
    """
    kinds = {name: metric_types.get(str(name).lower()) for name in config["metrics"]}
    rankings = [name for name, kind in kinds.items() if kind is EvaluatorType.RANKING]
    values = [name for name, kind in kinds.items() if kind is EvaluatorType.VALUE]
    if rankings and values:
        raise SettingError(
            f"metrics: {', '.join(values)} cannot stand beside {', '.join(rankings)}: the first judge scores against "
            "labels, the others rankings. Choose one kind; GAUC is the AUC of each user's ranking."
        )
    mode = (config["eval_args"] or {}).get("mode", "full")
    modes = set(mode.values() if isinstance(mode, dict) else [mode])
    if values and "full" in modes:
        raise SettingError(
            f"metrics: {', '.join(values)} is not possible with eval_args mode: full, which has no labels. Set mode: "
            "uni100 (drawn items have the label 0), or metrics: [GAUC], the AUC of each user's full ranking."
        )
    if rankings and "labeled" in modes:
        raise SettingError(
            f"metrics: {', '.join(rankings)} is not possible with eval_args mode: labeled, where nothing is ranked. "
            "Set mode: full, or metrics: [AUC]."
        )
    share = config["tail_ratio"]
    if isinstance(share, bool) or not isinstance(share, int | float) or share <= 0:
        raise SettingError(
            f"tail_ratio: {share!r} is not possible: it must be a share of the items up to 1, or a number of purchases."
        )
