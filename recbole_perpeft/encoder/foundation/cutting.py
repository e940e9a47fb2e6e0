"""Cutting the towers of a foundation model below the layers that are adapted."""

import torch

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.layer_cut import LayerCut, find_layers
from recbole_perpeft.utils.errors import EncoderError, first_line


def cut_towers(foundation: FoundationModel, kept: int) -> None:
    """Split every tower that has more than ``kept`` layers below its top ``kept`` ones, in place.

    Parameters
    ----------
    foundation
        Gets its ``cuts`` and ``below_cut``.
    kept
        Layers above the cut, 1 or more.

    Raises
    ------
    EncoderError
        If a tower has no stack of layers, or does not give the same features in two parts.
    """
    for modality in foundation.modalities:
        stack = find_layers(foundation.tower_modules(modality))
        if stack is None:
            raise EncoderError(_no_cut(foundation, modality, "it has no stack of layers"))
        if len(stack) > kept:
            foundation.cuts[modality] = LayerCut(stack, len(stack) - kept)
            _check(foundation, modality)


def _check(foundation: FoundationModel, modality: str) -> None:
    """Encode two items whole and in two parts; note which modules ran in the first."""
    batch, run = foundation.probe(modality), set()
    modules = foundation.tower_modules(modality)
    try:
        with torch.no_grad():
            foundation.cuts[modality].observe(lambda: foundation.encode(modality, batch))
            whole = foundation.encode(modality, batch)
            hooks = [
                module.register_forward_pre_hook(lambda *_, name=name: run.add(name))
                for name, module in modules.items()
            ]
            try:
                states = foundation.lower_states(modality, batch)
            finally:
                for hook in hooks:
                    hook.remove()
            parts = foundation.encode(modality, batch, states)
        same = torch.allclose(whole, parts, atol=1e-4)
    except Exception as error:  # whatever an architecture that is built otherwise stumbles over
        raise EncoderError(_no_cut(foundation, modality, f"{type(error).__name__}: {first_line(error)}")) from error
    if not same:
        raise EncoderError(_no_cut(foundation, modality, "in two parts it gives other features"))
    foundation.below_cut |= {name for name in run if not any(other.startswith(f"{name}.") for other in modules)}


def _no_cut(foundation: FoundationModel, modality: str, reason: str) -> str:
    return (
        f"peft_layers: the {modality} encoder of {foundation.name} cannot be cut between layers ({reason}). "
        "Set peft_layers: ~ to adapt all of it."
    )
