"""Hidden states of a frozen tower, one vector per item and layer: what side networks read (IISAN).

They equal those of ``output_hidden_states`` in transformers. Hooks collect them all the same, for one is needed at the
last layer in any case: transformers gives the states of a frozen tower outside the graph, without which nothing tells
what the feature reads.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.layer_cut import states_of
from recbole_perpeft.utils.errors import EncoderError


class TowerStates:
    """Hidden states at the positions that a tower's own feature reads, from what enters its first layer to the last.

    Which positions the feature reads is found from its gradient at the last layer's states: the class token of a ViT,
    the end of CLIP's texts, all tokens of a text whose mean is taken. Where it reads several, their mean is taken in
    every layer; so it is where a layer has other positions than the last one (stages of a convolution, of Swin).

    Parameters
    ----------
    foundation
        The frozen model.
    modality
        The tower.

    Attributes
    ----------
    depth : int
        Layers of the tower: of its modules in a list, those that hold the most weights. Stages count as layers.

    Raises
    ------
    EncoderError
        If it has no layers that run one after the other, and on whose states the feature depends.
    """

    def __init__(self, foundation: FoundationModel, modality: str):
        self._foundation, self._modality = foundation, modality
        batch = foundation.probe(modality)
        for layers in _stacks(foundation.tower_modules(modality)):
            try:
                with _observed(layers) as seen:
                    self._read(seen, foundation.encode(modality, batch))
                    in_order = list(seen) == list(range(len(layers) + 1))
            except (RuntimeError, IndexError, KeyError, AttributeError):  # no states go in and out of these
                continue
            if in_order:
                self._layers, self.depth = layers, len(layers)
                self._widths = [_as_positions(states).shape[-1] for states in seen.values()]
                return
        raise EncoderError(
            f"peft_type: IISAN cannot be used: the {modality} encoder of {foundation.name} has no stack of layers to "
            "read states from. Choose another encoder, or peft_type: LORA."
        )

    def widths(self, number: int) -> list[int]:
        """Widths of ``number`` states, evenly spaced over the depth."""
        return [self._widths[place] for place in self._places(number)]

    def pooled(self, batch: dict[str, torch.Tensor], number: int) -> torch.Tensor:
        """``number`` states of each item, evenly spaced over the depth.

        Parameters
        ----------
        batch
            As for :meth:`FoundationModel.forward`, of items ``[n]``.
        number
            States per item, at most one more than :attr:`depth`.

        Returns
        -------
        torch.Tensor
            ``[n, number, widest]``, without gradient. A state less wide than the widest ends in zeros.
        """
        # of its own graph: of one that is under way, checkpoint() would compute everything again
        with saved_tensors_hooks(_unchanged, _unchanged), _observed(self._layers) as seen:
            read = self._read(seen, self._foundation.encode(self._modality, batch))  # [n, positions]
        weights = read / read.sum(dim=1, keepdim=True)
        states = [_pool(_as_positions(seen[place]).detach().float(), weights) for place in self._places(number)]
        widest = max(self.widths(number))
        return torch.stack([F.pad(state, (0, widest - state.shape[-1])) for state in states], dim=1)

    def _read(self, seen: dict[int, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
        """Which positions of the last states ``[n, positions, d]`` the features read, ``[n, positions]``."""
        (gradient,) = gradients_at([seen[max(seen)]], features)
        return _as_positions(gradient).abs().amax(dim=-1) > 0

    def _places(self, number: int) -> Sequence[int]:
        return np.linspace(0, self.depth, number).round().astype(int)


def gradients_at(
    states: Sequence[torch.Tensor], features: torch.Tensor, allow_unused: bool = False
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of features ``[n, d]``, whose numbers weigh differently, at states: where the features read these."""
    towards = torch.linspace(1, 2, features.shape[1], device=features.device)
    return torch.autograd.grad((features * towards).sum(), states, allow_unused=allow_unused)


def _unchanged(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _stacks(modules: dict[str, nn.Module]) -> list[list[nn.Module]]:
    """Lists of two modules or more of one class, those with the most weights first; lists of lists are one."""
    lists = [_flat(module) for module in modules.values() if isinstance(module, nn.ModuleList)]
    stacks = [layers for layers in lists if len(layers) > 1 and len({type(layer) for layer in layers}) == 1]
    return sorted(stacks, key=lambda layers: -sum(p.numel() for layer in layers for p in layer.parameters()))


def _flat(modules: nn.ModuleList) -> list[nn.Module]:
    return [layer for m in modules for layer in (_flat(m) if isinstance(m, nn.ModuleList) else [m])]


def _as_positions(states: torch.Tensor) -> torch.Tensor:
    """States of a convolution ``[n, d, height, width]`` as ``[n, positions, d]``, which others are."""
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states


def _pool(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """States ``[n, positions, d]`` to ``[n, d]``, by weights ``[n, positions]`` if these are of the same positions."""
    return torch.einsum("np,npd->nd", weights, states) if states.shape[1] == weights.shape[1] else states.mean(dim=1)


@contextmanager
def _observed(layers: list[nn.Module]) -> Iterator[dict[int, torch.Tensor]]:
    """Collect the states before the first layer (0) and after each (1 and on); the last are a leaf of the graph."""
    seen: dict[int, torch.Tensor] = {}

    def entering(module: nn.Module, args: tuple, kwargs: dict) -> None:
        seen[0] = states_of(args, kwargs)

    def leaving(place: int):
        def hook(module: nn.Module, args: tuple, output: torch.Tensor | tuple) -> torch.Tensor | tuple:
            states = output[0] if isinstance(output, tuple) else output
            if place == len(layers):
                states = states.detach().requires_grad_()
            seen[place] = states
            return (states, *output[1:]) if isinstance(output, tuple) else states

        return hook

    hooks = [layers[0].register_forward_pre_hook(entering, with_kwargs=True)]
    hooks += [layer.register_forward_hook(leaving(place)) for place, layer in enumerate(layers, start=1)]
    try:
        with torch.enable_grad():
            yield seen
    finally:
        for hook in hooks:
            hook.remove()
