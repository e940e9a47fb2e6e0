"""Where a training stands, as a dict that a checkpoint holds, and the way back."""

from pathlib import Path

from recbole.trainer import Trainer

from recbole_perpeft.utils.errors import CheckpointError


def standing_of(trainer: Trainer, epoch: int) -> dict:
    """Where a stage stands after ``epoch``: the best state so far and its validation, and what it goes on from.

    Parameters
    ----------
    trainer
        A :class:`~recbole_perpeft.trainer.trainer.PerPEFTTrainer`.
    """
    return {
        "epoch": epoch,
        "cur_step": trainer.cur_step,
        "best_epoch": trainer.best_epoch,
        "best_valid_score": float(trainer.best_valid_score),
        "best_valid_result": {key: float(value) for key, value in (trainer.best_valid_result or {}).items()},
        "notes": trainer.notes,
        **trainer.checkpoint.states(),
        **trainer.steps.state(),
    }


def stand_at(trainer: Trainer, state: dict, file: str | Path) -> None:
    """Put ``trainer``, which is in the right stage, where ``state`` of :func:`standing_of`, from ``file``, says.

    Raises
    ------
    CheckpointError
        If the model or the optimiser is another.
    """
    trainer.epoch, trainer.start_epoch, trainer.cur_step = state["epoch"], state["epoch"] + 1, state["cur_step"]
    take_best(trainer, state)
    trainer.checkpoint.load(state["last_state_dict"], file)
    trainer.begin_stage(trainer.stage)
    try:
        trainer.steps.load(state)
    except ValueError as error:
        raise CheckpointError(
            f"Checkpoint {file} holds another optimiser than learner: {trainer.config['learner']} ({error})."
        ) from error


def take_best(trainer: Trainer, state: dict) -> None:
    """Let ``trainer`` have the best state of ``state``, its validation and its notes; the model stays as it is."""
    trainer.checkpoint.take_best(state)
    trainer.best_epoch, trainer.best_valid_score = state["best_epoch"], state["best_valid_score"]
    trainer.best_valid_result = state["best_valid_result"] or None
    trainer.notes = state.get("notes", {})  # files of before there were any have none
