"""How far a training run is: time left in each epoch's line, the best epoch of each stage."""

import statistics
from collections import defaultdict

from recbole.trainer import Trainer

from recbole_perpeft.utils.stopwatch import Stopwatch, in_words


class Progress:
    """Follows a trainer, RecBole's own ones too, from now on.

    The line that RecBole logs after an epoch's training then ends with ``epoch 9 of 40, about 5 min left``: at most so
    many where the run may stop early. In stage 1 it is the time that is left in it, for what an epoch of stage 3 takes
    is not known yet.

    Parameters
    ----------
    trainer
        Its epochs and validations are timed.
    watch
        Gets their seconds: of ``training``, or of the stages, and of ``validation``.

    Attributes
    ----------
    bests : dict[str, tuple[int, float]]
        Best epoch and validation score of each part of the training: where the trainer has notes they are among them,
        and a resumed run knows those of before; else of this process.
    """

    def __init__(self, trainer: Trainer, watch: Stopwatch):
        self._trainer, self._watch = trainer, watch
        self._epoch = -1
        self._training: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))  # of a part, by epoch
        self._validations: dict[str, list[float]] = defaultdict(list)
        self._notes: dict = {}
        self._train, self._validate = trainer._train_epoch, trainer._valid_epoch
        self._line = trainer._generate_train_loss_output
        trainer._train_epoch, trainer._valid_epoch = self._timed_training, self._timed_validation
        trainer._generate_train_loss_output = self._line_with_time_left

    @property
    def bests(self) -> dict[str, tuple[int, float]]:
        return getattr(self._trainer, "notes", self._notes).setdefault("bests", {})

    @property
    def _part(self) -> str:
        return getattr(self._trainer, "part", "training")

    def _timed_training(self, train_data, epoch_idx, *args, **kwargs):
        part, self._epoch = self._part, epoch_idx
        began = self._watch.clock()
        with self._watch.part(part):
            loss = self._train(train_data, epoch_idx, *args, **kwargs)
        self._training[part][epoch_idx] += self._watch.clock() - began  # some trainers train twice in an epoch
        return loss

    def _timed_validation(self, *args, **kwargs):
        began = self._watch.clock()
        with self._watch.part("validation"):
            score, result = self._validate(*args, **kwargs)
        self._validations[self._part].append(self._watch.clock() - began)
        self._note(score)
        return score, result

    def _note(self, score: float) -> None:
        _, best = self.bests.get(self._part, (0, score))
        if score >= best if self._trainer.valid_metric_bigger else score <= best:  # of equal ones the last, as RecBole
            self.bests[self._part] = self._epoch, float(score)

    def _line_with_time_left(self, epoch_idx, *args):
        return f"{self._line(epoch_idx, *args)} {self.where(epoch_idx)}"

    def where(self, epoch: int) -> str:
        """What is said after the training of ``epoch`` (from 0), before its validation."""
        trainer, part = self._trainer, self._part
        in_all = getattr(trainer, "all_epochs", trainer.epochs)
        text = f"epoch {epoch + 1} of {in_all}"
        epochs, step = trainer.epochs - 1 - epoch, trainer.eval_step
        validations = trainer.epochs // step - epoch // step if step > 0 else 0
        left = epochs * statistics.median(self._training[part].values())
        uncounted = validations and not self._validations[part]
        if validations and not uncounted:
            left += validations * statistics.median(self._validations[part])
        if not left:
            return text
        may_stop = trainer.cur_step + validations - 1 > trainer.stopping_step  # before the last validation
        text += f", {'at most ' if may_stop else ''}about {in_words(left)} left"
        text += f" in {part}" if trainer.epochs < in_all else ""
        return text + (", validations not counted" if uncounted else "")
