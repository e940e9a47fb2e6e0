"""How soft the groups of a trained model are: found in validation, among a few temperatures and degrees."""

from itertools import product

import torch
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score
from torch import nn

from recbole_perpeft.evaluation.rank_gain import length_of, rank_gain, some_batches
from recbole_perpeft.evaluation.ranked_rows import model_scorer, users_of_rows
from recbole_perpeft.grouping.assignment import losses_of_users
from recbole_perpeft.grouping.posterior import posteriors, soft_shares
from recbole_perpeft.utils import processes

_TEMPERATURES = (2.0, 8.0, 32.0)
_DEGREES = (0.25, 0.5, 0.75, 1.0)
CANDIDATES = ((8.0, 0.0), *product(_TEMPERATURES, _DEGREES))  # a temperature and a degree; the first are hard groups


def soften_groups(trainer: Trainer, train_data, valid_data) -> bool:
    """Let users have a share in other groups, if the best state of stage 3 validates better with it; gives whether.

    Parameters
    ----------
    trainer
        Of a PerPEFT model with ``soft_groups`` that holds the best state of stage 3, and holds that of both then.
    """
    find_group_shares(trainer, train_data, valid_data)
    result = trainer.evaluate(valid_data, load_best_model=False)
    score, best = calculate_valid_score(result, trainer.valid_metric), trainer.best_valid_score
    is_better = score > best if trainer.valid_metric_bigger else score < best
    if not (trainer.model.is_soft and is_better):
        trainer.model.forget()
        trainer.restore_best()
        return False
    trainer.best_valid_score, trainer.best_valid_result = score, result
    trainer.checkpoint.keep_best()
    trainer.logger.info(f"Soft groups: {trainer.valid_metric} {score:.4f} in validation, {best:.4f} without")
    return True


@torch.no_grad()
def find_group_shares(trainer: Trainer, train_data, valid_data) -> None:
    """Give a trained model's users a share in other groups than their own, if it ranks validation purchases better.

    What is best is judged as by :func:`~recbole_perpeft.trainer.term_weights.find_term_weights`.

    Parameters
    ----------
    trainer
        Of a PerPEFT model with ``soft_groups`` that holds the best state of stage 3.
    """
    model = trainer.model
    model.encode_catalogues()
    users, sums, _ = losses_of_users(model, train_data)
    model.group_losses[torch.from_numpy(users).to(model.device)] = torch.from_numpy(sums).to(model.group_losses)
    gains = torch.zeros(len(CANDIDATES), dtype=torch.float64)
    k = length_of(trainer.config["valid_metric"], model.n_items)
    sizes = model.group_sizes()
    with model_scorer(trainer, valid_data) as score:
        for number, batch in enumerate(some_batches(valid_data)):
            if not processes.is_own(number):
                continue
            users, by_group, positives = _scores_by_group(model, score, batch)
            own, unranked = model.user_groups[users], by_group[0].isinf()
            by_group.masked_fill_(unranked, 0)  # no share of minus infinity is a number
            for candidate, (temperature, degree) in enumerate(CANDIDATES):
                shares = soft_shares(own, posteriors(model.group_losses[users], sizes, temperature), degree)
                mixed = torch.einsum("ng,gni->ni", shares, by_group)
                gains[candidate] += rank_gain(mixed.masked_fill_(unranked, -torch.inf), *positives, k)
    temperature, degree = CANDIDATES[int(processes.total(gains).argmax())]
    model.group_temperature.fill_(temperature)
    model.group_softness.fill_(degree)
    model.take_from_first()


def _scores_by_group(model: nn.Module, score, batch: tuple) -> tuple[torch.Tensor, torch.Tensor, tuple]:
    """Users who trained ``[n]``, their scores under each group's module ``[num_groups, n, n_items]``, the positives."""
    by_group = None
    try:
        for group in range(model.num_groups):
            model.only_group = group
            interaction, scores, *positives = score(batch)
            if by_group is None:
                users = torch.from_numpy(users_of_rows(interaction[model.USER_ID], scores)).to(model.device)
                trained = model.user_groups[users] >= 0  # of the others' losses nothing is kept
                by_group = scores.new_empty(model.num_groups, int(trained.sum()), scores.shape[1])
            by_group[group] = scores[trained]
    finally:
        model.only_group = None
    row_of = trained.cumsum(0) - 1  # [rows]
    positive_u, positive_i = (ids.to(model.device) for ids in positives)
    kept = trained[positive_u]
    return users[trained], by_group, (row_of[positive_u[kept]], positive_i[kept])
