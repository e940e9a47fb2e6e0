"""How many validations without a better one end a stage."""

import sys

from recbole.trainer import Trainer

from recbole_perpeft.trainer.stage import Stage


def patience(trainer: Trainer) -> int:
    """``stopping_step``; none end stage 1 of a model with terms before it has had twice as many validations.

    By its terms a model that has learnt next to nothing ranks well, and what it learns first may rank worse.

    Parameters
    ----------
    trainer
        A :class:`~recbole_perpeft.trainer.trainer.PerPEFTTrainer`, in the epoch that is asked about.
    """
    stopping_step = trainer.config["stopping_step"]
    has_terms = any(term is not None for term in trainer.model.score_terms.values())
    enough = 2 * stopping_step * min(trainer.config["eval_step"], trainer.epochs)
    has_just_begun = has_terms and trainer.stage is Stage.GLOBAL and trainer.epoch + 1 < enough
    return sys.maxsize if has_just_begun else stopping_step
