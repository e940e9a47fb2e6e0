"""RecBole's trainers, whose evaluations tell a general model what its users bought since the training."""

from functools import cache

from recbole.trainer import Trainer

from recbole_perpeft.evaluation.known_purchases import knowing


class TellingTrainer(Trainer):
    """RecBole's Trainer; in an evaluation the model knows what is known of the users before it (``grow_history``)."""

    def evaluate(self, eval_data, *arguments, **named):
        """As RecBole's."""
        with knowing(self.model, eval_data):
            return super().evaluate(eval_data, *arguments, **named)


@cache
def telling(trainer_class: type[Trainer]) -> type[TellingTrainer]:
    """The same of another of RecBole's trainers."""
    return type(trainer_class.__name__, (TellingTrainer, trainer_class), {"__doc__": trainer_class.__doc__})
