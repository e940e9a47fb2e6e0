"""Rankings of an evaluation's users, kept row by row, so that metrics can be had of some of the users too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.trainer import Trainer
from recbole.utils import EvaluatorType

from recbole_perpeft.config.metric_checks import OF_PROBABILITIES
from recbole_perpeft.data.eval_dataloader import FullRankingLoader
from recbole_perpeft.evaluation.collector import RankingCollector, refuse_no_probabilities
from recbole_perpeft.evaluation.known_purchases import knowing
from recbole_perpeft.utils.random_state import random_state_kept


@dataclass(frozen=True)
class RankedRows:
    """What metrics need of each ranking.

    Attributes
    ----------
    users : numpy.ndarray
        User id of each row, ``[rows]``.
    struct : DataStruct
        RecBole's: ``rec.…`` of each row, ``data.…`` of the data.
    """

    users: np.ndarray
    struct: DataStruct

    def metrics(self, config, rows: np.ndarray | None = None) -> dict[str, float] | None:
        """All metrics of ``config``, of the chosen ``rows`` (bool ``[rows]``) alone; None if there are none."""
        struct = self.struct
        if rows is not None:
            if not rows.any():
                return None
            struct = DataStruct()
            for key, value in self.struct._data_dict.items():
                struct.set(key, value[torch.from_numpy(rows)] if key.startswith("rec.") else value)
        return {name: float(value) for name, value in Evaluator(config).evaluate(struct).items()}


@torch.no_grad()
def ranked_rows(config, train_data, data, score: Callable[[tuple], tuple]) -> RankedRows:
    """Rank every user of ``data``.

    Parameters
    ----------
    train_data
        Whose counts some metrics need.
    data
        An evaluation loader of rankings.
    score
        Makes ``(interaction, scores [users, n_items], rows of positives, positives)`` of a batch.
    """
    collector, users = RankingCollector(config), []
    collector.data_collect(train_data)
    for batch in data:
        interaction, scores, positive_u, positive_i = score(batch)
        collector.eval_batch_collect(scores, interaction, positive_u, positive_i)
        users.append(users_of_rows(interaction[config["USER_ID_FIELD"]], scores))
    return RankedRows(np.concatenate(users), collector.get_data_struct())


def users_of_rows(users: torch.Tensor, scores: torch.Tensor) -> np.ndarray:
    """User id of each of the ``scores [rows, n_items]`` of a batch, whose interaction has ``users``, ``[rows]``."""
    users = users.cpu()
    # candidates of a sampled evaluation follow each other user by user
    return (users if len(users) == len(scores) else users.unique_consecutive()).numpy()


@contextmanager
def model_scorer(trainer: Trainer, data) -> Iterator[Callable[[tuple], tuple]]:
    """For a while, RecBole's way of scoring a batch of ``data`` by the trainer's model as it is, as rankings.

    The model knows the purchases that ``data`` asks it to know.
    """
    model = trainer.model.eval()
    if isinstance(data, FullRankingLoader) and hasattr(model, "user_groups"):
        data.order_by(model.user_groups.cpu().numpy())
    trainer.tot_item_num = data._dataset.item_num
    if isinstance(data, FullSortEvalDataLoader):
        score = trainer._full_sort_batch_eval
    elif trainer.config["eval_type"] == EvaluatorType.RANKING:
        score = trainer._neg_sample_batch_eval
    else:
        score = partial(_ranked_values, trainer)
    with knowing(model, data):
        yield score


def _ranked_values(trainer: Trainer, batch: tuple) -> tuple:
    """What RecBole gives where metrics are of rankings, in an evaluation that judges scores one by one."""
    interaction, values, positive_u, positive_i = trainer._neg_sample_batch_eval(batch)
    scores = values.new_full((int(positive_u[-1]) + 1, trainer.tot_item_num), -torch.inf)
    scores[batch[1], interaction[trainer.config["ITEM_ID_FIELD"]]] = values
    return interaction, scores, positive_u, positive_i


@torch.no_grad()
def check_scores(trainer: Trainer, data) -> None:
    """Refuse metrics that the model's scores do not allow, before it is trained for hours.

    Raises
    ------
    SettingError
        If the scores of a batch of ``data`` are to be probabilities and are not.
    """
    if any(name.lower() in OF_PROBABILITIES for name in trainer.config["metrics"]):
        with random_state_kept(), knowing(trainer.model.eval(), data):
            _, scores, *_ = trainer._neg_sample_batch_eval(next(iter(data)))  # one by one, as they judge them
        refuse_no_probabilities(trainer.config, scores)
