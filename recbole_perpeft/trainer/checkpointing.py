"""What a trainer keeps: its best state, checkpoints to go on from, and what stage 1 ends with, for other runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from recbole.utils import get_local_time

from recbole_perpeft.config.identity import PROTOCOL, differing
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.trainer import checkpoint_file, stage_1_cache
from recbole_perpeft.trainer.steps import StepTrainer
from recbole_perpeft.utils.errors import CheckpointError
from recbole_perpeft.utils.files import remove_empty, reserve


class CheckpointTrainer(StepTrainer):
    """RecBole's Trainer with our steps, our checkpoints and a best state in memory.

    The checkpoint file holds the best state so far, the last one with its optimiser, and where training stands; it is
    rewritten after every validation.

    Attributes
    ----------
    identity : dict
        From :mod:`~recbole_perpeft.config.identity`; empty until it is known.
    notes : dict
        Numbers that whoever uses the trainer wants to find again when the run is resumed.
    has_file : bool
        Whether ``saved_model_file`` is its own.
    best_epoch : int
        Of the best validation, -1 before any.
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        name = f"{config['model']}-{config['dataset']}-{get_local_time()}.pth"
        self.saved_model_file = os.path.join(self.checkpoint_dir, name)
        self.identity: dict[str, str] = {}
        self.notes: dict = {}
        self.best_epoch = -1
        self._saved, self._validates = True, True
        self._epoch = -1  # the last that was trained
        self.has_file = False
        self._protocol_changed = False  # since the scores of a checkpoint that was loaded
        self._best_state: dict[str, torch.Tensor] | None = None
        self._holds_best = False
        self._stage_1_file: Path | None = None
        self._stage_1_state: dict[str, torch.Tensor] | None = None

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        """RecBole calls this on each best epoch (each epoch, without validation): keep the state, then write."""
        with self._averaged():
            self._best_state, self.best_epoch, self._holds_best = self._snapshot(), epoch, self.average is None
        if not self._validates:
            self.model.item_tower.forget()  # as a resumed run, which starts without what earlier steps have left
            self._write(epoch)

    def _snapshot(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}

    def _write(self, epoch: int) -> None:
        if not self._saved:
            return
        if not self.has_file:
            self.saved_model_file, self.has_file = str(reserve(self.saved_model_file)), True
        state = {"settings": self.config.settings(), "stage": self.stage, **self._standing(epoch)}
        try:
            checkpoint_file.write(self.saved_model_file, state)
        except BaseException:
            remove_empty(self.saved_model_file)
            raise

    def _standing(self, epoch: int) -> dict:
        """Where a stage stands after ``epoch``: the best state so far and its validation, and what it goes on from."""
        last = {key: value.detach().cpu() for key, value in self.model.state_dict().items()}
        return {
            "identity": self.identity,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "state_dict": self._best_state or last,
            "has_best": self._best_state is not None,
            "best_epoch": self.best_epoch,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": {key: float(value) for key, value in (self.best_valid_result or {}).items()},
            "last_state_dict": last,
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state() if self.average else None,
            "notes": self.notes,
        }

    def _take_best(self, state: dict) -> None:
        self._best_state = None
        if state["has_best"]:
            self._best_state = {key: value.cpu() for key, value in state["state_dict"].items()}
        self.best_epoch, self.best_valid_score = state["best_epoch"], state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"] or None
        self.notes = state.get("notes", {})  # files of before there were any have none
        self._holds_best = False

    def restore_best(self) -> None:
        """Put the best state of this stage into the model; without one, the model stays as it is.

        A model that holds it already keeps the item tables that its validation has computed.
        """
        if self._best_state is not None and not self._holds_best:
            self.model.load_state_dict(self._best_state)
            self._holds_best = True

    def _keep_stage_1(self) -> None:
        """Keep the best state of stage 1, from which stage 3 goes on, in memory, and its validation in the notes."""
        self._stage_1_state = self._best_state
        if self.best_valid_result:
            self.notes["stage_1"] = {"best_epoch": self.best_epoch, "best_valid_score": float(self.best_valid_score)}

    @property
    def has_stage_1(self) -> bool:
        """Whether stage 1 ended in this process, so that :meth:`stage_1_in_use` is possible."""
        return self._stage_1_state is not None

    @contextmanager
    def stage_1_in_use(self) -> Iterator[None]:
        """Let the model hold the best state of stage 1, one module for all users, for a while; then the best one."""
        self.model.load_state_dict(self._stage_1_state)
        self._holds_best = False
        try:
            yield
        finally:
            self.restore_best()

    def keep_in(self, file: str | Path) -> None:
        """Write checkpoints to ``file``, and go on with the one that it holds, if it is there.

        Raises
        ------
        CheckpointError
            As :meth:`resume_checkpoint`.
        """
        if Path(file).is_file():
            self.resume_checkpoint(file)
        else:
            self.saved_model_file, self.has_file = str(file), True

    def resume_checkpoint(self, resume_file, to_train=True):
        """Go on where ``resume_file`` stands: same stage, next epoch, same optimiser.

        Parameters
        ----------
        to_train
            Whether training goes on; else the model may be measured in another way than when it was trained.

        Raises
        ------
        CheckpointError
            If it cannot be read or was made from other data, other content, another encoder or with other settings.
        """
        state = self._read(resume_file, to_train)
        self.saved_model_file, self.has_file = str(resume_file), True
        self.stage = state["stage"]
        self._protocol_changed = any(key in PROTOCOL for key in differing(state["settings"], self.config.settings()))
        self._stand_at(state, resume_file)
        self.logger.info(f"Resuming {resume_file} in the {self.stage} stage, from epoch {self.start_epoch}.")

    def _read(self, file: str | Path, to_train: bool) -> dict:
        """What a checkpoint holds, if it fits."""
        state = checkpoint_file.read(file, self.device)
        checkpoint_file.check(file, state, self.config.settings(), self.identity, to_train)
        return state

    def _load(self, state_dict: dict[str, torch.Tensor], file: str | Path) -> None:
        try:
            self.model.load_state_dict(state_dict)
        except RuntimeError as error:  # of another build, whose model has other parts
            reason = str(error).replace("\n", " ")
            raise CheckpointError(f"Checkpoint {file} does not fit {self.config['model']}: {reason}") from error

    def _stand_at(self, state: dict, file: str | Path) -> None:
        """The reverse of :meth:`_standing`, of a state that ``file`` holds."""
        self._epoch, self.start_epoch, self.cur_step = state["epoch"], state["epoch"] + 1, state["cur_step"]
        self._take_best(state)
        self._load(state["last_state_dict"], file)
        self.optimizer = self._build_optimizer()
        if self.average and state["average"]:
            self.average.load(state["average"])
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise CheckpointError(
                f"Checkpoint {file} holds another optimiser than learner: {self.config['learner']} ({error})."
            ) from error

    def _refuse_other_protocol(self) -> None:
        if self._protocol_changed:
            raise CheckpointError(
                f"Training cannot go on from {self.saved_model_file}, which was loaded to be measured in another way: "
                "its best score so far is of other metrics. Load it without them."
            )

    def share_stage_1(self, file: str | Path) -> None:
        """Begin after what stage 1 has left in ``file``, or leave it there for others when it ends.

        A run that begins so ends as one that has trained stage 1 itself, if ``file`` is that of
        :func:`~recbole_perpeft.trainer.stage_1_cache.file_of`. With groups, stage 3 is next; with ``num_groups: 1``
        training goes on, if it would have validated there too. One that stands somewhere already goes on there.

        Raises
        ------
        CheckpointError
            As :meth:`resume_checkpoint`.
        """
        self._stage_1_file = Path(file)
        if self.start_epoch or not self._stage_1_file.is_file():
            return
        state = checkpoint_file.read(file, self.device, holds="stage_1")["stage_1"]
        after = stage_1_cache.GROUP_SETTINGS
        settings = {key: value for key, value in self.config.settings().items() if key not in after}
        checkpoint_file.check(file, state, settings, self.identity, to_train=True)
        if self.config["num_groups"] > 1:
            state["state_dict"] = stage_1_cache.for_other_groups(state["state_dict"], self.model.state_dict())
            self._take_best(state)
            self.start_epoch = self.config["global_epochs"]
        elif self.config["eval_step"] and (state["epoch"] + 1) % self.config["eval_step"]:
            return  # its last epoch was validated because the stage ended
        else:
            self._stand_at(stage_1_cache.for_one_group(state, self.model, self.optimizer), file)
        self.logger.info(f"Stage 1 was trained by a run before, best in epoch {self.best_epoch}: {file}.")

    def _leave_stage_1(self) -> None:
        """Before the best state is put back: others go on from the last."""
        if self._stage_1_file and self.config["num_groups"] > 1 and not self._stage_1_file.is_file():
            state = stage_1_cache.by_name(self._standing(self._epoch), self.model, self.optimizer)
            known = {"settings": self.config.settings(), "sources": sources_hash()}
            checkpoint_file.write(self._stage_1_file, {"stage_1": {**state, **known}})
