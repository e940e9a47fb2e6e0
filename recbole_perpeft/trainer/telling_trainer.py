"""RecBole's trainers, whose evaluations tell a general model what its users bought since the training.

Of several processes each ranks some of the users, and all have the metrics of all of them.
"""

from functools import cache

from recbole.trainer import Trainer

from recbole_perpeft.data.eval_dataloader import FullRankingLoader
from recbole_perpeft.evaluation.known_purchases import knowing
from recbole_perpeft.utils import processes


class TellingTrainer(Trainer):
    """RecBole's Trainer; in an evaluation the model knows what is known of the users before it (``grow_history``)."""

    def evaluate(self, eval_data, *arguments, **named):
        """As RecBole's."""
        self.eval_collector.of_all_processes = isinstance(eval_data, FullRankingLoader)
        with knowing(self.model, eval_data):
            return super().evaluate(eval_data, *arguments, **named)

    def _full_sort_batch_eval(self, batched_data):
        with processes.alone():  # the others have other users
            return super()._full_sort_batch_eval(batched_data)

    def _neg_sample_batch_eval(self, batched_data):
        with processes.alone():
            return super()._neg_sample_batch_eval(batched_data)


@cache
def telling(trainer_class: type[Trainer]) -> type[TellingTrainer]:
    """The same of another of RecBole's trainers."""
    return type(trainer_class.__name__, (TellingTrainer, trainer_class), {"__doc__": trainer_class.__doc__})
