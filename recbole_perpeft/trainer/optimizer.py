"""What the optimiser holds, and at which learning rates."""

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer


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


def set_learning_rates(optimizer: Optimizer, rates: Sequence[float]) -> None:
    """Let the optimiser's groups of parameters, in their order, learn at ``rates``, whatever a checkpoint had."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
