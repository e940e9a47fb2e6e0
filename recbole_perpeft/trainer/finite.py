"""Numbers of a training that are not finite are refused, with what helps against them."""

import math
from collections.abc import Mapping

import torch

from recbole_perpeft.utils.errors import TrainingError


def check_loss(loss: torch.Tensor, epoch: int, learning_rate: float, best: str | None) -> None:
    """Refuse a training loss that is not finite.

    Parameters
    ----------
    best
        The file with the last epoch that was validated; None, if there is none.

    Raises
    ------
    TrainingError
        If it is infinite or not a number.
    """
    if not torch.isfinite(loss):
        kept = f" The last validated epoch is kept in {best}." if best else ""
        raise TrainingError(
            f"The training loss is {loss.item()} in epoch {epoch}. Lower learning_rate "
            f"({learning_rate}) or set clip_grad_norm: {{max_norm: 1.0}}.{kept}"
        )


def check_result(result: Mapping[str, float]) -> None:
    """Refuse metrics that are not finite.

    Raises
    ------
    TrainingError
        Names them.
    """
    broken = [name for name, value in result.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(f"Evaluation gave no finite value for {', '.join(broken)}: lower learning_rate.")
