"""What must hold of adapters, seen on one item: all of them train, and evaluation applies what training did."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.hidden_states import gradients_at
from recbole_perpeft.utils.errors import EncoderError

_SAME = 1e-3  # of features of length 1: sums in another order, through all layers
_PERTURBATION = 0.05


def idle_layers(foundation: FoundationModel, modality: str, layers: Mapping[str, nn.Module]) -> set[str]:
    """Find the layers whose outputs no feature depends on, so that an adapter there would never train.

    Such are layers whose weights another module reads without running them (the children of ``nn.MultiheadAttention``),
    and those of an output that is not used (the pooler of a model whose mean is taken).

    Parameters
    ----------
    foundation
        The model, without adapters.
    modality
        The encoder that the layers belong to.
    layers
        Its modules, by their names inside the model.

    Returns
    -------
    set of str
        Names of ``layers``.
    """
    batch, states = _one_item(foundation, modality)
    with _with_leaves(layers) as leaves, torch.enable_grad():
        features = foundation.encode(modality, batch, states)  # [1, d]
        reached = gradients_at([leaf for _, leaf in leaves], features, allow_unused=True) if leaves else ()
    return set(layers) - {name for (name, _), gradient in zip(leaves, reached, strict=True) if gradient is not None}


@contextmanager
def _with_leaves(layers: Mapping[str, nn.Module]) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Add a zero with a gradient to each output of the layers, and collect these zeros."""
    leaves: list[tuple[str, torch.Tensor]] = []

    def observed(name: str):
        def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
            leaf = torch.zeros_like(output, requires_grad=True)
            leaves.append((name, leaf))
            return output + leaf

        return hook

    hooks = [module.register_forward_hook(observed(name)) for name, module in layers.items()]
    try:
        yield leaves
    finally:
        for hook in hooks:
            hook.remove()


def check_trains(foundation: FoundationModel, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Refuse adapters of which a part never trains.

    Parameters
    ----------
    foundation
        The adapted model.
    parameters
        Names and trainable parameters of the active module.

    Raises
    ------
    EncoderError
        If the features depend on none of the numbers of a parameter. (A gradient of zero does not count as none:
        LoRA starts with one.)
    """
    named = dict(parameters)
    with torch.enable_grad():
        features = [foundation.encode(m, *_one_item(foundation, m)) for m in foundation.modalities]  # [1, d] each
        gradients = gradients_at(list(named.values()), torch.cat(features, dim=1), allow_unused=True)
    never = [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]
    if never:
        raise EncoderError(
            f"peft_config: {len(never)} of a module's {len(named)} parameters would never train, for no feature "
            f"depends on them ({', '.join(never[:3])}{' …' * (len(never) > 3)}). Leave these layers out of "
            "target_modules."
        )


@torch.no_grad()
def check_merged(foundation: FoundationModel, parameters: Iterable[tuple[str, nn.Parameter]], merged) -> None:
    """Refuse adapters that would act otherwise merged into the weights, in evaluation, than beside them, in training.

    Parameters
    ----------
    foundation
        The adapted model.
    parameters
        Names and trainable parameters of the active module, which are moved for the comparison and put back.
    merged
        Context manager that merges the module.

    Raises
    ------
    EncoderError
        If the features of an item differ.
    """
    generator = torch.Generator().manual_seed(0)
    kept = [(parameter, parameter.clone()) for _, parameter in parameters]
    for parameter, exact in kept:
        parameter.add_(_PERTURBATION * torch.randn(exact.shape, generator=generator))
    items = [(m, *_one_item(foundation, m)) for m in foundation.modalities]
    try:
        beside = [foundation.encode(*item) for item in items]  # [1, d] each
        with merged:
            inside = [foundation.encode(*item) for item in items]
    finally:
        for parameter, exact in kept:
            parameter.copy_(exact)
    difference = max(float((one - other).abs().max()) for one, other in zip(beside, inside, strict=True))
    if not difference <= _SAME:
        raise EncoderError(
            "peft_config: an adapter that has trained acts otherwise in evaluation, merged into the weights, than in "
            f"training, by up to {difference:.2g} of a feature of length 1. Choose other target_modules."
        )


@torch.no_grad()
def _one_item(foundation: FoundationModel, modality: str) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
    """A short batch, and what enters the first layer above a cut, where there is one."""
    batch = {key: values[1:] for key, values in foundation.probe(modality).items()}
    if modality == "text" and not foundation.fixed_text_length:
        length = int(batch["attention_mask"].sum())
        batch = {key: values[:, :length] for key, values in batch.items()}
    return batch, foundation.lower_states(modality, batch) if modality in foundation.cuts else None
