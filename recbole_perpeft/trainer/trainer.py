"""The three stages on RecBole's Trainer: global PEFT, grouping, personalised PEFT (paper, section on training)."""

from contextlib import nullcontext
from pathlib import Path

import torch
from recbole.utils import init_seed, set_color
from torch.optim import AdamW, Optimizer
from tqdm import tqdm

from recbole_perpeft.data.eval_dataloader import FullRankingLoader
from recbole_perpeft.evaluation.collector import RankingCollector
from recbole_perpeft.trainer import checkpoint_file, stage_1_cache
from recbole_perpeft.trainer.checkpoint import Checkpoint
from recbole_perpeft.trainer.finite import check_loss, check_result
from recbole_perpeft.trainer.group_shares import soften_groups
from recbole_perpeft.trainer.optimizer import parameter_groups
from recbole_perpeft.trainer.patience import patience
from recbole_perpeft.trainer.stage import Stage
from recbole_perpeft.trainer.stage_report import stage_report
from recbole_perpeft.trainer.standing import stand_at, standing_of
from recbole_perpeft.trainer.steps import Steps
from recbole_perpeft.trainer.telling_trainer import TellingTrainer
from recbole_perpeft.trainer.term_weights import find_term_weights
from recbole_perpeft.trainer.user_groups import UserGroups
from recbole_perpeft.trainer.weight_average import average_in
from recbole_perpeft.utils import processes
from recbole_perpeft.utils.cores import single_threaded
from recbole_perpeft.utils.stopwatch import Stopwatch

_WINDOWS_BETWEEN_CHECKS = 50


class PerPEFTTrainer(TellingTrainer):
    """RecBole's Trainer, run once per training stage, with users grouped in between.

    Epochs ``[0, global_epochs)`` are stage 1; then users are grouped; then stage 3 runs to ``epochs``. The validation
    purchases select the best epoch: stage 3 starts from the best one of stage 1, and the model that is tested is the
    best of stage 3, or that start if nothing beats it. With ``num_groups: 1`` stage 1 takes all epochs.

    Everything random follows from the seed and the epoch, so a run that is resumed ends as one that was never
    interrupted.

    Attributes
    ----------
    stage : Stage
        Set by :meth:`begin_stage`.
    steps : Steps
        Those of the stage.
    checkpoint : Checkpoint
        The best state, and the file that is rewritten after every validation.
    groups : UserGroups
        Those of stage 3.
    epoch, best_epoch : int
        The last that was begun, and that of the best validation; -1 before any.
    notes : dict
        Numbers that whoever uses the trainer wants to find again when the run is resumed.
    watch : Stopwatch
        What times stage 2.
    stage_1_file : pathlib.Path or None
        Where stage 1 leaves what it ends with, for other runs.
    """

    def __init__(self, config, model):
        self.checkpoint = Checkpoint(config, model)
        super().__init__(config, model)
        self.saved_model_file = checkpoint_file.name_of(config)
        personal = config["num_groups"] > 1
        self.global_epochs = config["global_epochs"] if personal else config["epochs"]
        self.all_epochs = config["epochs"]
        self.notes: dict = {}
        self.epoch, self.best_epoch = -1, -1
        self.watch = Stopwatch()
        self.stage_1_file: Path | None = None
        self.groups = UserGroups(config, model)
        self.eval_collector = RankingCollector(config)
        self._saved, self._validates = True, True
        self.begin_stage(Stage.GLOBAL)

    @property
    def part(self) -> str:
        """What is trained now: ``stage 1``, ``stage 3``, or ``training`` where there is only one stage."""
        only_one = self.global_epochs >= self.all_epochs and self.stage is Stage.GLOBAL
        return "training" if only_one else f"stage {self.stage.number}"

    @property
    def keeps_stage_1(self) -> bool:
        """Whether the best state of all is one of stage 1, though stage 3 has begun."""
        return bool(self.best_valid_result and self.global_epochs) and self.best_epoch < self.global_epochs

    @property
    def saved_model_file(self) -> str:
        """The checkpoint's file, under the name that RecBole's trainers give it."""
        return self.checkpoint.file

    @saved_model_file.setter
    def saved_model_file(self, file: str) -> None:
        self.checkpoint.file = file

    # -- stages -----------------------------------------------------------------------------------------------------

    def fit(self, train_data, valid_data=None, verbose=True, saved=True, show_progress=False, callback_fn=None):
        """Train through the stages that are left.

        Returns
        -------
        tuple
            Best validation score and result of the last stage, as RecBole's ``fit``.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        self.checkpoint.refuse_other_protocol()
        self.model.take_from_first()
        self._saved, self._validates = saved, bool(valid_data) and self.eval_step > 0
        self._train_data = train_data

        def after_validation(epoch, score):
            self._write(epoch)
            if callback_fn:
                callback_fn(epoch, score)

        # RecBole keeps the best state only if it saves; what reaches the disk is decided in _write
        arguments = (train_data, valid_data, verbose, True, show_progress, after_validation)
        if self.stage is Stage.PERSONALISED:  # resumed there
            self.groups.use(train_data)
        else:
            self._fit_stage(self.global_epochs, *arguments)
            if self.config["epochs"] > self.global_epochs:
                self.checkpoint.keep_stage_1()
                if self.best_valid_result:
                    best = {"best_epoch": self.best_epoch, "best_valid_score": float(self.best_valid_score)}
                    self.notes["stage_1"] = best
                with self.watch.part("grouping"):
                    self._personalise(train_data)
            elif self.config["num_groups"] > 1:
                self.logger.warning(f"global_epochs takes all {self.global_epochs} epochs: users are not grouped.")
        if self.stage is Stage.PERSONALISED:
            self._fit_stage(self.config["epochs"], *arguments)
            self._soften_groups(train_data, valid_data)
        return self.best_valid_score, self.best_valid_result

    def begin_stage(self, stage: Stage) -> None:
        """Let what is trained next be of ``stage``, with an optimiser and an average that have taken no step yet."""
        self.stage = stage
        self.optimizer = self._build_optimizer()
        self.steps = Steps(self.model, self.optimizer, average_in(stage, self.model, self.config), self.config)

    def _build_optimizer(self, **kwargs) -> Optimizer:
        own = self.config["peft_learning_rate"]
        if own is None:  # until the first epoch knows how many batches are encoded together
            own = self.learning_rate
        groups = parameter_groups(self.model, self.learning_rate, own)
        if self.learner.lower() == "adamw":  # in one pass: no copy of a large table on a CPU, one launch on a GPU
            return AdamW(groups, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)
        return super()._build_optimizer(params=groups, **kwargs)

    def _fit_stage(self, epochs: int, *arguments) -> None:
        self.epochs = epochs
        self.eval_step = min(self.config["eval_step"], epochs)
        self.stopping_step = patience(self)
        stopped_early = self.cur_step > self.stopping_step  # a resumed run may stand just there
        if self.start_epoch < epochs and not stopped_early:
            self.logger.info(stage_report(self.stage.number, self.start_epoch, epochs, self.model, self.config))
            super().fit(*arguments)
        elif self.checkpoint.best_state is None:
            self._save_checkpoint(self.start_epoch - 1)
        if self.stage is Stage.GLOBAL:
            stage_1_cache.leave(self)
        self.restore_best()

    def _personalise(self, train_data) -> None:
        self.groups.find(train_data)
        self.start_epoch, self.cur_step = self.global_epochs, 0
        if self.checkpoint.best_state is not None:  # the start of stage 3 scores as the best of stage 1, and is to beat
            self.checkpoint.keep_best()
        self.begin_stage(Stage.PERSONALISED)
        self._write(self.global_epochs - 1)

    def _soften_groups(self, train_data, valid_data) -> None:
        can_be_soft = hasattr(self.model, "group_softness") and self._validates
        if can_be_soft and self.best_epoch >= self.global_epochs and soften_groups(self, train_data, valid_data):
            self._write(self.epoch)

    def _regroup(self, train_data, epoch: int) -> None:
        """Let users change their group, every ``regroup_epochs``."""
        if self._regroups_before(epoch):
            with self.steps.averaged():
                self.groups.change(train_data)

    def _regroups_before(self, epoch: int) -> bool:
        every, since = self.config["regroup_epochs"], epoch - self.global_epochs
        return self.stage is Stage.PERSONALISED and bool(every) and since > 0 and since % every == 0

    @property
    def _users_follow(self) -> bool:
        """Whether users go by how well the modules of their groups predict what they bought."""
        learns = self.stage is Stage.PERSONALISED and self.model.groups_differ_by_content
        return learns and self.model.users_follow

    # -- epochs -----------------------------------------------------------------------------------------------------

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        """One pass over the users; gives the sum of the batches' losses."""
        seed = (self.config["seed"] * 100_003 + epoch_idx) % 2**32
        init_seed(seed, self.config["reproducibility"])
        train_data.set_epoch(epoch_idx)
        self.epoch = epoch_idx
        self.stopping_step = patience(self)
        self._regroup(train_data, epoch_idx)
        if self._users_follow:
            self.groups.draw(train_data, seed)
        self.model.fix_likeness(train_data.purchases)
        if epoch_idx == self.epochs - 1 and self.eval_step > 0:
            self.eval_step = 1  # a stage ends with a validation, or its last epochs would never be candidates
        encoder = self.model.item_tower.encoder
        before = encoder.items_encoded
        self.steps.begin_epoch(train_data)
        self.model.train()
        total = torch.zeros((), device=self.device)
        bar = tqdm(total=len(train_data), ncols=100, desc=f"Train {epoch_idx:>5}", disable=not show_progress)
        with bar, single_threaded() if encoder.has_small_products else nullcontext():
            for number, (batches, loss) in enumerate(self.steps.train(train_data)):
                total += loss
                if number % _WINDOWS_BETWEEN_CHECKS == 0:  # a look at every loss would make a GPU wait
                    self._check_nan(processes.total(total))
                bar.update(batches)
        total = processes.total(total)
        self._check_nan(total)
        self._items_encoded = sum(processes.of_all(encoder.items_encoded - before))
        return total.item()

    def _valid_epoch(self, valid_data, show_progress=False):
        """RecBole's, of the averaged weights if these are kept, with the terms' best weights for them."""
        with self.steps.averaged():
            if self._users_follow:
                self.groups.follow(self._train_data, self.epoch)
            find_term_weights(self, valid_data)
            found = super()._valid_epoch(valid_data, show_progress=show_progress)
            if self.epoch + 1 < self.epochs and self._regroups_before(self.epoch + 1):
                self.groups.foresee(self._train_data)
        return found

    def _generate_train_loss_output(self, epoch_idx, s_time, e_time, losses):
        output = super()._generate_train_loss_output(epoch_idx, s_time, e_time, losses)
        return output[:-1] + ", " + set_color("items encoded", "blue") + f": {self._items_encoded}]"

    def _check_nan(self, loss):
        best = self.saved_model_file if self.checkpoint.best_state else None
        check_loss(loss, self.epoch, self.learning_rate, best)

    # -- evaluation -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """RecBole's evaluation, by default of the best state (of ``model_file``, if given)."""
        if load_best_model and model_file:
            state = self.checkpoint.read(model_file, to_train=False)
            self.checkpoint.load(state["state_dict"], model_file)
        elif load_best_model:
            self.restore_best()
        self.model.encode_catalogues()
        if isinstance(eval_data, FullRankingLoader):
            eval_data.order_by(self.model.user_groups.cpu().numpy())
        result = super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        result = processes.of_first(result)  # of equal ones, which early stopping compares
        check_result(result)
        return result

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def restore_best(self) -> None:
        """Put the best state of this stage into the model; without one, the model stays as it is."""
        self.checkpoint.restore_best()

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        """RecBole calls this on each best epoch (each epoch, without validation): keep the state, then write."""
        with self.steps.averaged():
            self.checkpoint.keep_best()
        self.best_epoch = epoch
        if not self._validates:
            self.model.forget()  # as a resumed run, which starts without what earlier steps have left
            self._write(epoch)

    def _write(self, epoch: int) -> None:
        if not self._saved:
            return
        if processes.is_first():
            self.checkpoint.write({"stage": self.stage.value, **standing_of(self, epoch)})
        self.checkpoint.file, self.checkpoint.has_file = processes.of_first(self.checkpoint.file), True

    def resume_checkpoint(self, resume_file, to_train=True):
        """Put the run where a checkpoint stands; :meth:`fit` goes on from there.

        Parameters
        ----------
        to_train
            Whether training goes on; else the model may be measured in another way than when it was trained.

        Raises
        ------
        CheckpointError
            If it cannot be read or was made from other data, other content, another encoder or with other settings.
        """
        state = self.checkpoint.resume(resume_file, to_train)
        self.stage = Stage(state["stage"])
        stand_at(self, state, resume_file)
        self.logger.info(f"Resuming {resume_file} in the {self.stage} stage, from epoch {self.start_epoch}.")
