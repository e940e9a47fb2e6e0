"""Whether a run paid: its numbers beside those of popularity and of one model for all users, group by group."""

from collections import ChainMap
from typing import Any

import numpy as np
from recbole.utils import EvaluatorType

from recbole_perpeft.config.registry import is_perpeft
from recbole_perpeft.evaluation.popularity import popularity_scorer, purchase_counts
from recbole_perpeft.evaluation.ranked_rows import RankedRows, model_scorer, ranked_rows
from recbole_perpeft.report.group_profiles import bought_by_groups, metric_by_group, scores_by_module
from recbole_perpeft.report.progress import Progress


def training_summary(trainer, progress: Progress) -> dict[str, Any]:
    """Best epochs and validation scores, of each stage where there are stages.

    Parameters
    ----------
    trainer
        At the end of its training.
    progress
        What followed it.

    Returns
    -------
    dict
        ``best_epoch`` (from 0, as in RecBole's log; None without validation), ``best_stage`` (1 or 3, None without
        stages), and ``stages``: number of the stage to ``best_epoch`` and ``best_valid_score``; of a model that is not
        trained ``chosen``, in words.
    """
    if chosen := getattr(trainer, "chosen", None):  # nothing was trained
        return {"best_epoch": None, "best_stage": None, "stages": {}, "chosen": chosen}
    if not is_perpeft(trainer.config.model_class):
        epoch, score = progress.bests.get("training", (None, None))
        if trainer.start_epoch and score != trainer.best_valid_score:  # RecBole's checkpoint is that of the best epoch
            epoch = trainer.start_epoch - 1
        return {"best_epoch": epoch, "best_stage": None, "stages": {}}
    validated = bool(trainer.best_valid_result)
    best = trainer.best_epoch if validated else None
    summary = {"best_epoch": best, "best_stage": None, "stages": {}}
    if not validated or trainer.part != "stage 3":
        return summary
    summary["best_stage"] = 1 if best < trainer.global_epochs and trainer.global_epochs else 3
    if "stage_1" in trainer.notes:
        summary["stages"][1] = dict(trainer.notes["stage_1"])
    if summary["best_stage"] == 3:  # with groups' shares, which are found at the end
        summary["stages"][3] = {"best_epoch": best, "best_valid_score": float(trainer.best_valid_score)}
    elif "stage 3" in progress.bests:
        epoch, score = progress.bests["stage 3"]
        summary["stages"][3] = {"best_epoch": epoch, "best_valid_score": score}
    return summary


def comparison_summary(trainer, train_data, valid_data, test_data) -> dict[str, Any]:
    """The model's test beside popularity's and beside that of one module for all users; scores by group.

    Parameters
    ----------
    trainer
        Its model was tested just now and holds the best state.

    Returns
    -------
    dict
        ``popularity_result`` and ``global_result`` (metrics as in RecBole's ``test_result``; None where there is
        none), ``groups`` (of each its ``users``, how many of them are ``tested``; ``valid`` and ``test``, the
        validation metric of these, and, if stage 3 is what is tested, of the test also under its ``own`` module alone,
        the ``others``' (each user by one, in turns) and the ``global`` one; its ``words`` and ``titles``, see
        :func:`~recbole_perpeft.report.group_profiles.bought_by_groups`), ``users_ranked``, ``items_ranked`` (candidates
        of each user, history included) and ``training_purchases``.
    """
    config, dataset = trainer.config, train_data._dataset
    if config["eval_type"] != EvaluatorType.RANKING:
        return {}

    def ranked(data) -> RankedRows:
        with model_scorer(trainer, data) as score:
            return ranked_rows(config, train_data, data, score)

    counts = purchase_counts(dataset)
    of_popularity = popularity_scorer(counts, dataset.iid_field)
    summary: dict[str, Any] = {
        "popularity_result": ranked_rows(config, train_data, test_data, of_popularity).metrics(config),
        "global_result": None,
        "groups": [],
        "users_ranked": len(np.unique(test_data._dataset.inter_feat[dataset.uid_field].numpy())),
        "items_ranked": candidates(config, test_data),
        "training_purchases": int(counts.sum()),
    }
    if is_perpeft(trainer.config.model_class) and trainer.part == "stage 3":
        of_users = trainer.model.user_groups.cpu().numpy().copy()
        groups = _by_group(trainer, of_users, ranked(valid_data), ranked(test_data))
        found = [bought_by_groups(config, dataset, of_users)]
        if _is_personal(trainer):
            found.append(scores_by_module(trainer.model, config, lambda: ranked(test_data), of_users))
        if trainer.checkpoint.has_stage_1:
            with trainer.checkpoint.stage_1_in_use():
                of_global = ranked(test_data)
            summary["global_result"] = of_global.metrics(config)
            if _is_personal(trainer):
                found.append([{"global": score} for score in metric_by_group(config, of_global, of_users)])
        summary["groups"] = [dict(ChainMap(*parts)) for parts in zip(*found, groups, strict=True)]
    return summary


def _is_personal(trainer) -> bool:
    """Whether groups see items by modules that have gone ways of their own, and are no copies of stage 1's."""
    return not trainer.keeps_stage_1 and not trainer.model.item_tower.by_user


def _by_group(trainer, group_of: np.ndarray, valid: RankedRows, test: RankedRows) -> list[dict[str, Any]]:
    config, groups = trainer.config, []
    of_parts = [metric_by_group(config, rows, group_of) for rows in (valid, test)]
    for group, scores in enumerate(zip(*of_parts, strict=True)):
        tested = len(np.unique(test.users[group_of[test.users] == group]))
        users = int((group_of[1:] == group).sum())
        groups.append({"users": users, "tested": tested, "valid": scores[0], "test": scores[1]})
    return groups


def candidates(config, data) -> int:
    """Items that each user's ranking is made of, or draws from."""
    if config["cold_items"]:
        return len(data._dataset.cold_ids())
    return getattr(data, "times", data._dataset.item_num - 1)
