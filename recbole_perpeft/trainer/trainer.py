"""The three stages on RecBole's Trainer: global PEFT, grouping, personalised PEFT (paper, section on training)."""

import math

import numpy as np
import torch
from recbole.utils import init_seed, set_color
from tqdm import tqdm

from recbole_perpeft.data.eval_dataloader import FullRankingLoader
from recbole_perpeft.evaluation.collector import RankingCollector
from recbole_perpeft.grouping.assignment import best_groups, stage_2_groups
from recbole_perpeft.trainer.checkpointing import CheckpointTrainer
from recbole_perpeft.trainer.optimizer import set_learning_rates
from recbole_perpeft.trainer.stage_report import grouping_report, small_groups_report, stage_report
from recbole_perpeft.trainer.steps import PERSONALISED
from recbole_perpeft.utils.errors import TrainingError
from recbole_perpeft.utils.stopwatch import Stopwatch

_WINDOWS_BETWEEN_CHECKS = 50


class PerPEFTTrainer(CheckpointTrainer):
    """RecBole's Trainer, run once per training stage, with users grouped in between.

    Epochs ``[0, global_epochs)`` are stage 1; then users are grouped; then stage 3 runs to ``epochs``. The validation
    purchases select the best epoch: stage 3 starts from the best one of stage 1, and the model that is tested is the
    best of stage 3, or that start if nothing beats it. With ``num_groups: 1`` stage 1 takes all epochs.

    Everything random follows from the seed and the epoch, so a run that is resumed ends as one that was never
    interrupted.

    Attributes
    ----------
    watch : Stopwatch
        What times stage 2.
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        personal = config["num_groups"] > 1
        self.global_epochs = config["global_epochs"] if personal else config["epochs"]
        self.all_epochs = config["epochs"]
        self.watch = Stopwatch()
        self.eval_collector = RankingCollector(config)
        self._small_groups: list[str] = []

    @property
    def part(self) -> str:
        """What is trained now: ``stage 1``, ``stage 3``, or ``training`` where there is only one stage."""
        if self.global_epochs >= self.all_epochs:
            return "training"
        return "stage 3" if self.stage == PERSONALISED else "stage 1"

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
        self._refuse_other_protocol()
        self._saved, self._validates = saved, bool(valid_data) and self.eval_step > 0

        def after_validation(epoch, score):
            self._write(epoch)
            if callback_fn:
                callback_fn(epoch, score)

        # RecBole keeps the best state only if it saves; what reaches the disk is decided in _write
        arguments = (train_data, valid_data, verbose, True, show_progress, after_validation)
        if self.stage == PERSONALISED:  # resumed there
            self._use_groups(train_data)
        else:
            self._fit_stage(1, self.global_epochs, *arguments)
            if self.config["epochs"] > self.global_epochs:
                self._keep_stage_1()
                with self.watch.part("grouping"):
                    self._personalise(train_data)
            elif self.config["num_groups"] > 1:
                self.logger.warning(f"global_epochs takes all {self.global_epochs} epochs: users are not grouped.")
        if self.stage == PERSONALISED:
            self._fit_stage(3, self.config["epochs"], *arguments)
            if self._validates and self.best_epoch < self.global_epochs:
                self.logger.warning(
                    "No epoch of stage 3 beat stage 1 in validation: the model kept is the global one, the same for "
                    "all groups. Train stage 1 to its end first (global_epochs), or set fewer groups or more epochs."
                )
        return self.best_valid_score, self.best_valid_result

    def _fit_stage(self, number: int, epochs: int, *arguments) -> None:
        self.epochs = epochs
        self.eval_step = min(self.config["eval_step"], epochs)
        stopped_early = self.cur_step > self.stopping_step  # a resumed run may stand just there
        if self.start_epoch < epochs and not stopped_early:
            self.logger.info(stage_report(number, self.start_epoch, epochs, self.model, self.config))
            super().fit(*arguments)
        elif self._best_state is None:
            self._save_checkpoint(self.start_epoch - 1)
        if number == 1:
            self._leave_stage_1()
        self.restore_best()

    def _personalise(self, train_data) -> None:
        """Stage 2: group the users by their training purchases, and start every group from the global module."""
        users, groups = stage_2_groups(self.model, train_data)
        self.model.personalise(users, groups)
        self._use_groups(train_data)
        sizes = np.bincount(groups, minlength=self.config["num_groups"]).tolist()
        self.logger.info(grouping_report(self.config["grouping"], sizes, train_data.group_pools))
        self.stage, self.start_epoch, self.cur_step = PERSONALISED, self.global_epochs, 0
        if self._best_state is not None:  # the start of stage 3 scores as the best of stage 1 and is the one to beat
            self._best_state, self._holds_best = self._snapshot(), True
        self.optimizer = self._build_optimizer()
        self._write(self.global_epochs - 1)

    def _regroup(self, train_data, epoch: int) -> None:
        """Move each user to the group whose module predicts his training purchases best, every ``regroup_epochs``."""
        every, since = self.config["regroup_epochs"], epoch - self.global_epochs
        if self.stage != PERSONALISED or not every or since == 0 or since % every:
            return
        with self._averaged():
            users, groups = best_groups(self.model, train_data)
        moved = self.model.regroup(users, groups)
        self._use_groups(train_data)
        sizes = np.bincount(groups, minlength=self.config["num_groups"]).tolist()
        self.logger.info(f"{moved} users changed their group, sizes now {sizes}")

    def _use_groups(self, train_data) -> None:
        groups = self.model.user_groups.cpu().numpy().copy()  # which a state that is loaded would overwrite
        train_data.set_groups(groups, self.config["group_negatives"])
        sentences = small_groups_report(groups, self.config["num_groups"], train_data.pools.too_small)
        for sentence in sentences:
            if sentence not in self._small_groups:  # as they were before the last regrouping
                self.logger.warning(sentence)
        self._small_groups = sentences

    # -- epochs -----------------------------------------------------------------------------------------------------

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        """One pass over the users; gives the sum of the batches' losses."""
        init_seed((self.config["seed"] * 100_003 + epoch_idx) % 2**32, self.config["reproducibility"])
        train_data.set_epoch(epoch_idx)
        self._epoch, self._holds_best = epoch_idx, False
        self._regroup(train_data, epoch_idx)
        set_learning_rates(self.optimizer, self._learning_rates)
        if epoch_idx == self.epochs - 1 and self.eval_step > 0:
            self.eval_step = 1  # a stage ends with a validation, or its last epochs would never be candidates
        encoder = self.model.item_tower.encoder
        before = encoder.items_encoded
        self.model.train()
        total = torch.zeros((), device=self.device)
        bar = tqdm(total=len(train_data), ncols=100, desc=f"Train {epoch_idx:>5}", disable=not show_progress)
        with bar:
            for number, (batches, loss) in enumerate(self.train_batches(train_data)):
                total += loss
                if number % _WINDOWS_BETWEEN_CHECKS == 0:  # a look at every loss would make a GPU wait
                    self._check_nan(total)
                bar.update(batches)
        self._check_nan(total)
        self._items_encoded = encoder.items_encoded - before
        return total.item()

    def _valid_epoch(self, valid_data, show_progress=False):
        """RecBole's, of the averaged weights if these are kept."""
        with self._averaged():
            return super()._valid_epoch(valid_data, show_progress=show_progress)

    def _generate_train_loss_output(self, epoch_idx, s_time, e_time, losses):
        output = super()._generate_train_loss_output(epoch_idx, s_time, e_time, losses)
        return output[:-1] + ", " + set_color("items encoded", "blue") + f": {self._items_encoded}]"

    def _check_nan(self, loss):
        if not torch.isfinite(loss):
            kept = f" The last validated epoch is kept in {self.saved_model_file}." if self._best_state else ""
            raise TrainingError(
                f"The training loss is {loss.item()} in epoch {self._epoch}. Lower learning_rate "
                f"({self.config['learning_rate']}) or set clip_grad_norm: {{max_norm: 1.0}}.{kept}"
            )

    # -- evaluation -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """RecBole's evaluation, by default of the best state (of ``model_file``, if given)."""
        if load_best_model and model_file:
            self._load(self._read(model_file, to_train=False)["state_dict"], model_file)
            self._holds_best = False
        elif load_best_model:
            self.restore_best()
        if isinstance(eval_data, FullRankingLoader):
            eval_data.order_by(self.model.user_groups.cpu().numpy())
        result = super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        broken = [name for name, value in result.items() if not math.isfinite(value)]
        if broken:
            raise TrainingError(f"Evaluation gave no finite value for {', '.join(broken)}: lower learning_rate.")
        return result
