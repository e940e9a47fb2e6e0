"""One run, measured; as a module it is the process that :mod:`~recbole_perpeft.experiments.scheduler` starts."""

import hashlib
import json
import logging
import math
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from recbole.trainer import Trainer
from recbole.utils.logger import RemoveColorFilter

from recbole_perpeft import quick_start
from recbole_perpeft.config import Config
from recbole_perpeft.config.registry import is_perpeft
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.evaluation.ranked_rows import model_scorer, users_of_rows
from recbole_perpeft.experiments.costs import Costs
from recbole_perpeft.experiments.run_process import checkpoint_of
from recbole_perpeft.report.run_summary import candidates
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer.resuming import keep_in, written_checkpoint
from recbole_perpeft.trainer.stage_1_cache import file_of, share
from recbole_perpeft.trainer.stage_report import count
from recbole_perpeft.trainer.trainer import PerPEFTTrainer
from recbole_perpeft.utils.errors import CheckpointError, MisfitError, PerPEFTError, SettingError


def measure(
    config: Config,
    test: bool,
    unfinished: Path | None = None,
    stage_1_folder: Path | None = None,
    keep_other_builds: bool = True,
    model_file: Path | None = None,
) -> dict:
    """Train, and measure the state that is best in validation.

    Parameters
    ----------
    config
        Settings of the run.
    test
        Whether the test purchases are looked at.
    unfinished
        File of the checkpoints of a PerPEFT model: what it holds is gone on with. RecBole's trainers begin anew, for
        their checkpoints do not hold what a run needs to end as one that was never interrupted.
    stage_1_folder
        Folder of what stage 1 of PerPEFT models ends with: a run takes it from there, or leaves it there for others.
    keep_other_builds
        Whether what other sources of this package have left in ``unfinished`` is gone on with; else it is begun anew.
    model_file
        Where the checkpoint stays, on the disk where it is written; None: nowhere.

    Returns
    -------
    dict
        ``valid`` (the validation metric's best), ``seconds``, ``epochs``, ``best_epoch``, ``seconds_per_epoch`` (median
        training epoch of the last stage), ``peak_memory_mib``, ``parameters``; with ``test`` also ``test`` (RecBole's
        metrics), ``ranks`` (of each user's test purchase) and ``data`` (what has to be the same in all runs of a
        comparison). Of a run that was interrupted, or has its stage 1 from another, time and memory are those of all
        processes that it needed, without what was lost.

    Raises
    ------
    CheckpointError
        If ``unfinished`` or ``stage_1_folder`` holds what cannot be gone on with.
    """
    began = time.perf_counter()
    _, trainer, train_data, valid_data, test_data = quick_start.prepare(config)
    if is_perpeft(config.model_class):
        _go_on(trainer, unfinished, stage_1_folder, keep_other_builds)
    costs = Costs(trainer, began)
    score, _ = trainer.fit(train_data, valid_data, show_progress=False)
    costs.note()
    result = {
        "valid": float(score),
        "seconds": costs.notes["seconds"],
        "epochs": len(costs.notes["epochs"]),
        "best_epoch": getattr(trainer, "best_epoch", None),
        "seconds_per_epoch": costs.median_epoch(getattr(trainer, "global_epochs", 0)),
        "parameters": _parameters(trainer.model),
        "peak_memory_mib": costs.notes["peak_memory_mib"],
    }
    if test:
        metrics = trainer.evaluate(test_data, load_best_model=True)
        ranks = ranks_of_targets(trainer, test_data)
        result["test"] = {name: float(value) for name, value in metrics.items()}
        result["ranks"] = {user: rank for user, (_, rank) in ranks.items()}
        lines = [f"{user}\t{item}" for user, (item, _) in sorted(ranks.items())]
        result["data"] = {
            "test purchases": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16],
            "users": len(ranks),
            "items": candidates(config, test_data),
            "history masked": bool(config["mask_history"]),
        }
    if model_file:
        os.replace(written_checkpoint(trainer), model_file)
    return result


def ranks_of_targets(trainer: Trainer, data) -> dict[str, tuple[str, float]]:
    """Each user's held-out item and its rank, 1 for the best, the mean rank of those that score equal."""
    dataset, ranks = data._dataset, {}
    with torch.no_grad(), model_scorer(trainer, data) as score:
        for batch in data:
            interaction, scores, rows, items = score(batch)
            rows, items = rows.to(scores.device), items.to(scores.device)
            of_targets = scores[rows, items]
            above = (scores[rows] > of_targets[:, None]).sum(dim=1)  # [targets]
            level = (scores[rows] == of_targets[:, None]).sum(dim=1)  # with the target itself
            users = dataset.id2token(
                dataset.uid_field, users_of_rows(interaction[dataset.uid_field], scores)[rows.cpu().numpy()]
            )
            tokens = dataset.id2token(dataset.iid_field, items.cpu().numpy())
            for user, item, rank in zip(
                users.tolist(), tokens.tolist(), (above + (level + 1) / 2).tolist(), strict=True
            ):
                ranks[user] = item, rank
    return ranks


def gain(metric: str, rank: float) -> float:
    """What a metric gives for a user with one held-out purchase at ``rank``.

    Raises
    ------
    SettingError
        If the metric is not made of the gains of single users.
    """
    name, _, k = metric.lower().partition("@")
    gains = {"ndcg": 1 / math.log2(rank + 1), "mrr": 1 / rank, "map": 1 / rank, "hit": 1.0, "recall": 1.0}
    if name not in gains:
        raise SettingError(f"valid_metric: {metric} cannot be tested user by user. Set one of {', '.join(gains)} at k.")
    return gains[name] if rank <= int(k) else 0.0


def _go_on(
    trainer: PerPEFTTrainer, unfinished: Path | None, stage_1_folder: Path | None, keep_other_builds: bool
) -> None:
    stage_1 = file_of(stage_1_folder, trainer.config, trainer.checkpoint.identity) if stage_1_folder else None
    try:
        if unfinished:
            _keep_in(trainer, unfinished, keep_other_builds)
        if stage_1:
            share(trainer, stage_1)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Delete it to begin anew.") from error


def _keep_in(trainer: PerPEFTTrainer, unfinished: Path, keep_other_builds: bool) -> None:
    """Go on with what ``unfinished`` holds, unless it was begun with other inputs, or with other sources."""
    if unfinished.is_file() and not keep_other_builds and checkpoint_file.read(unfinished)["sources"] != sources_hash():
        trainer.logger.warning(f"{unfinished} was begun by another build of recbole_perpeft: begun anew.")
        unfinished.unlink()
    try:
        keep_in(trainer, unfinished)
    except MisfitError as error:
        trainer.logger.warning(f"{error} It is begun anew.")
        unfinished.unlink()
        keep_in(trainer, unfinished)


def _parameters(model: torch.nn.Module) -> dict[str, int]:
    """Trained parameters in all, those of PEFT modules, and the frozen ones of the foundation model."""
    if not hasattr(model, "trainable_parameters"):
        return {"trained": count(p for p in model.parameters() if p.requires_grad), "peft": 0, "frozen": 0}
    encoder = model.item_tower.encoder
    return {
        "trained": count(model.trainable_parameters()),
        "peft": count(encoder.peft_parameters()),
        "frozen": encoder.foundation.num_parameters,
    }


def _log_to(file: str) -> None:
    """RecBole's log as plain text; it names the run's tensorboard folder after the file."""
    handler = logging.FileHandler(file)
    handler.addFilter(RemoveColorFilter())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=[handler])


def main(job_file: str) -> None:
    """Run the job in a JSON file and write its result beside it."""
    job = json.loads(Path(job_file).read_text())
    _log_to(job["log"])
    target = Path(job["result"])
    unfinished = checkpoint_of(target)
    with tempfile.TemporaryDirectory() as folder:
        model_file = Path(job["model_file"]) if job["model_file"] else None
        place = str(model_file.parent) if model_file else folder  # which a checkpoint that is kept remembers
        settings = {**job["settings"], "checkpoint_dir": place, "show_progress": False}
        try:
            config = Config(job["model"], job["dataset"], config_dict=settings)
            stage_1_folder = Path(job["stage_1_folder"]) if job["stage_1_folder"] else None
            others = job["keep_other_builds"], model_file
            result = measure(config, job["with_test"], unfinished, stage_1_folder, *others)
        except PerPEFTError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(2)
    partial = target.with_suffix(".partial")
    # its own sources: they may have been edited since the command began
    partial.write_text(json.dumps({**job, **result, "sources": sources_hash()}))
    os.replace(partial, target)
    unfinished.unlink(missing_ok=True)


def _end_with_parent() -> None:
    """End this process when the one that began it has: whoever takes the run over then finds its files unused."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # a pipe in which nothing comes, until the other end is gone
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    main(sys.argv[1])
