"""What the optimiser holds, and at which learning rates."""

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from recbole_perpeft.data.encoding_windows import FEWEST


def parameter_groups(model: nn.Module, learning_rate: float, peft_learning_rate: float) -> list[dict]:
    """All that is trained, as torch's optimisers take it: the PEFT modules at a learning rate of their own.

    Parameters
    ----------
    model
        A PerPEFT model.
    learning_rate
        Of all the rest.
    peft_learning_rate
        Of these.
    """
    everything, peft = model.trainable_parameters(), model.item_tower.encoder.peft_parameters()
    if not peft:
        return [{"params": everything}]
    modules = {id(parameter) for parameter in peft}
    others = [parameter for parameter in everything if id(parameter) not in modules]
    return [{"params": others}, {"params": peft, "lr": peft_learning_rate}]


def peft_learning_rate(learning_rate: float, together: int) -> float:
    """That of PEFT modules which take a step where the rest takes ``together``: as many times ``learning_rate``.

    Beyond :data:`FEWEST` it grows with the square root only, as Adam's does with the size of a batch (Malladi et al.,
    On the SDEs and Scaling Rules for Adaptive Gradient Algorithms, 2022).
    """
    return learning_rate * min(together, FEWEST) * max(together / FEWEST, 1) ** 0.5


def set_peft_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Let the PEFT modules, if there are any in an optimiser of :func:`parameter_groups`, learn at ``rate``."""
    for group in optimizer.param_groups[1:]:
        group["lr"] = rate


def set_learning_rates(optimizer: Optimizer, rates: Sequence[float]) -> None:
    """Let the optimiser's groups of parameters, in their order, learn at ``rates``, whatever a checkpoint had."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
