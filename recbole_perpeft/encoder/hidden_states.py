"""Hidden states of a frozen tower, one vector per item and layer: what side networks read (IISAN)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from recbole_perpeft.encoder.errors import EncoderError
from recbole_perpeft.encoder.foundation_model import FoundationModel
from recbole_perpeft.encoder.layer_cut import find_layers, states_of


def stack_of(foundation: FoundationModel, modality: str) -> nn.ModuleList:
    """The layers of a tower.

    Raises
    ------
    EncoderError
        If it has no stack of layers.
    """
    stack = find_layers(foundation.tower_modules(modality))
    if stack is None:
        raise EncoderError(
            f"peft_type: IISAN cannot be used: the {modality} encoder of {foundation.name} has no stack of layers to "
            "read states from. Choose another encoder, or peft_type: LORA."
        )
    return stack


def pooled_states(
    foundation: FoundationModel, modality: str, batch: dict[str, torch.Tensor], number: int
) -> torch.Tensor:
    """Hidden states at the positions that a tower's own feature reads, evenly spaced over its depth.

    The first is what enters the first layer, the last what leaves the last one. Which positions the feature reads is
    found from its gradient at the last layer's states: the class token of a ViT, the end of CLIP's texts, all tokens of
    a text whose mean is taken. Where it reads several, their mean is taken in every layer.

    Parameters
    ----------
    foundation
        The frozen model.
    modality
        The tower.
    batch
        As for :meth:`FoundationModel.forward`, of items ``[n]``.
    number
        States per item, at most one more than the tower has layers.

    Returns
    -------
    torch.Tensor
        ``[n, number, d]``, without gradient.
    """
    stack = stack_of(foundation, modality)
    with _observed(stack) as seen, torch.enable_grad():
        features = foundation.encode(modality, batch)  # [n, d]
        (gradient,) = gradients_at([seen[len(stack)]], features)  # [n, positions, d]
    read = gradient.abs().amax(dim=-1) > 0  # [n, positions]
    weights = read / read.sum(dim=1, keepdim=True)
    places = np.linspace(0, len(stack), number).round().astype(int)
    states = [torch.einsum("np,npd->nd", weights, seen[place].detach().float()) for place in places]
    return torch.stack(states, dim=1)


def gradients_at(
    states: Sequence[torch.Tensor], features: torch.Tensor, allow_unused: bool = False
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of features ``[n, d]``, whose numbers weigh differently, at states: where the features read these."""
    towards = torch.linspace(1, 2, features.shape[1], device=features.device)
    return torch.autograd.grad((features * towards).sum(), states, allow_unused=allow_unused)


@contextmanager
def _observed(stack: nn.ModuleList) -> Iterator[dict[int, torch.Tensor]]:
    """Collect the states before the first layer (0) and after each (1 and on); the last are a leaf of the graph."""
    seen: dict[int, torch.Tensor] = {}

    def entering(module: nn.Module, args: tuple, kwargs: dict) -> None:
        seen[0] = states_of(args, kwargs)

    def leaving(place: int):
        def hook(module: nn.Module, args: tuple, output: torch.Tensor | tuple) -> torch.Tensor | tuple:
            states = output[0] if isinstance(output, tuple) else output
            if place == len(stack):
                states = states.detach().requires_grad_()
            seen[place] = states
            return (states, *output[1:]) if isinstance(output, tuple) else states

        return hook

    hooks = [stack[0].register_forward_pre_hook(entering, with_kwargs=True)]
    hooks += [layer.register_forward_hook(leaving(place)) for place, layer in enumerate(stack, start=1)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
