"""What the log says at the end of a run: one screen."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from recbole.utils import set_color

_WIDTH = 14  # of the names of rows
_TITLES, _TITLE = 2, 28  # of a group's items, and letters of each
_MODULES = ("own", "others", "global")


def run_report(summary: dict[str, Any], config, next_steps: Sequence[str]) -> str:
    """``summary``, of :func:`~recbole_perpeft.quick_start.run`, as text.

    Parameters
    ----------
    summary
        What the run returns.
    next_steps
        Commands.
    """
    metric = config["valid_metric"]
    lines = [
        set_color("Summary", "pink"),
        *_training(summary, metric, config["epochs"]),
        *_test(summary),
        *_groups(summary, metric),
        *_modules(summary, metric),
        *_data(summary, config),
        _row("seconds", _seconds(summary["seconds"])),
        *(_row("next" if number == 0 else "", step) for number, step in enumerate(next_steps)),
    ]
    return "\n".join(lines)


def verdicts(summary: dict[str, Any], config) -> list[str]:
    """What a reader should not overlook: that the run did not pay."""
    metric, bigger = config["valid_metric"], config["valid_metric_bigger"]
    own, found = summary["test_result"].get(metric.lower()), []

    def beats(result: dict | None) -> bool:
        other = (result or {}).get(metric.lower())
        return None not in (own, other) and (other > own if bigger else other < own)

    if config["model"] != "Pop" and beats(summary.get("popularity_result")):
        found.append(
            f"Popularity beats {config['model']} on the test purchases: {metric} "
            f"{summary['popularity_result'][metric.lower()]:.4f}, the model {own:.4f}."
        )
    if summary["best_stage"] == 1:
        found.append(
            "No epoch of stage 3 beat stage 1 in validation: the groups did not pay, and the model kept is the global "
            "one. Train stage 1 to its end first (global_epochs), or set fewer groups or more epochs."
        )
    elif summary["best_stage"] == 3 and beats(summary.get("global_result")):
        found.append(
            f"The global model of stage 1 beats the groups' modules on the test purchases, though not in validation: "
            f"{metric} {summary['global_result'][metric.lower()]:.4f}, the groups {own:.4f}."
        )
    return found


def _row(name: str, text: str) -> str:
    return f"    {name:{_WIDTH}} {text}"


def _training(summary: dict, metric: str, epochs: int) -> list[str]:
    best, stages = summary["best_epoch"], summary["stages"]
    if best is None:
        chosen = summary.get("chosen")
        score = f", {metric} {summary['best_valid_score']:.4f} in validation" if summary["best_valid_result"] else ""
        return [_row("chosen", chosen + score)] if chosen else []
    stage = f", of stage {summary['best_stage']}" if summary["best_stage"] else ""
    score = f"{metric} {summary['best_valid_score']:.4f} in validation"
    epoch = f"{best} ({best + 1} of {epochs})" if best >= 0 else "the start (warm_start)"  # the log counts from 0
    lines = [_row("best epoch", f"{epoch}{stage}, {score}")]
    if summary["best_stage"]:
        texts = []
        for number in (1, 3):
            known = stages.get(number)
            texts.append(f"stage {number}: {_best_of(known) if known else 'not known (began after it)'}")
        lines.append(_row("best of", ", ".join(texts)))
    return lines


def _best_of(stage: dict) -> str:
    epoch = stage["best_epoch"]
    return f"{stage['best_valid_score']:.4f} ({f'epoch {epoch}' if epoch >= 0 else 'the start'})"


def _test(summary: dict) -> list[str]:
    results = {
        "this model": summary["test_result"],
        "global model": summary.get("global_result"),
        "popularity": summary.get("popularity_result"),
    }
    results = {name: result for name, result in results.items() if result}
    lines = [_row("test", _columns(results))]
    for metric in summary["test_result"]:
        lines.append(_row(f"  {metric}", _columns(f"{result[metric]:.4f}" for result in results.values())))
    if summary.get("groups") and not summary["global_result"]:
        lines.append(_row("", "global model: not known, for stage 1 ended before this run began or was resumed"))
    return lines


def _groups(summary: dict, metric: str) -> list[str]:
    if not summary.get("groups"):
        return []
    lines = [_row("groups", _columns(["users", "tested", "valid", "test"]) + f"  {metric} of its users")]
    for number, group in enumerate(summary["groups"]):
        sizes = [f"{group[part]:,}" for part in ("users", "tested")]
        scores = ["-" if group[part] is None else f"{group[part]:.4f}" for part in ("valid", "test")]
        lines.append(_row(f"  group {number}", _columns(sizes + scores)))
    return lines


def _modules(summary: dict, metric: str) -> list[str]:
    """Whose module serves whom, and what each group buys more than others."""
    groups = summary.get("groups") or []
    scored = _MODULES if any("own" in group for group in groups) else ()
    of_scores = f"{metric} in the test by each module alone; " if scored else ""
    lines = [_row("modules" if scored else "purchases", f"{_columns(scored)}  {of_scores}what sets purchases apart")]
    for number, group in enumerate(groups):
        scores = _columns("-" if group.get(name) is None else f"{group[name]:.4f}" for name in scored)
        titles = dict.fromkeys(_shortened(title) for title in group["titles"])  # variants of an item begin alike
        bought = [", ".join(group["words"]), "; ".join([*titles][:_TITLES])]
        lines.append(_row(f"  group {number}", f"{scores}  {' | '.join(filter(None, bought)) or 'nothing stands out'}"))
    return lines if groups else []


def _shortened(title: str) -> str:
    title = " ".join(html.unescape(title).split())
    return title if len(title) <= _TITLE else title[: _TITLE - 1].rstrip() + "…"


def _columns(texts: Iterable[str]) -> str:
    return "".join(f"{text:>14}" for text in texts)


def _data(summary: dict, config) -> list[str]:
    if "users_ranked" not in summary:
        return []
    trained = f"; trained on {summary['training_purchases']:,} purchases"
    mode = config["eval_args"]["mode"]
    mode = mode.get("test") if isinstance(mode, dict) else mode
    sampled = "" if mode == "full" else f" ({mode})"
    of_each = f"{summary['items_ranked']:,} items each{sampled}"
    return [_row("ranked", f"{summary['users_ranked']:,} users, {of_each}{trained}")]


def _seconds(seconds: dict[str, float]) -> str:
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "all")
    return f"{seconds['all']:.1f} in all: {parts}"
