"""How far each group's module went from the one of stage 1 that all of them started from, layer by layer."""

import numpy as np
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from recbole_perpeft.encoder.item_encoder import ItemEncoder

Changes = dict[str, torch.Tensor]


@torch.no_grad()
def changes_of(encoder: ItemEncoder, group: int) -> Changes:
    """What a group's module adds to each layer, by the layers' names in their order.

    Of LoRA that is the change of the merged weight, ``B A`` times its scale: different A and B can be the same change.
    Of all other methods (DoRA, which also scales the weight, among them) and of side networks it is the parameters
    themselves, end to end.
    """
    name = f"group_{group}"
    if not encoder.adapter_parameters(group):
        return {}
    merged = {
        layer: module.get_delta_weight(name).float().cpu()
        for layer, module in encoder.foundation.model.named_modules()
        if isinstance(module, BaseTunerLayer)
        and name in getattr(module, "lora_A", {})
        and name not in module.lora_magnitude_vector
    }
    if merged:
        return merged
    parts: dict[str, list[torch.Tensor]] = {}
    for parameter, value in encoder.adapter_parameters(group):
        parts.setdefault(_layer_of(parameter, group), []).append(value.detach().float().cpu().flatten())
    return {layer: torch.cat(values) for layer, values in parts.items()}


def relative(own: Changes, start: Changes) -> np.ndarray:
    """The norm of the difference from ``start`` over the norm of ``start``, of each layer, ``[layers]``.

    Of a layer that stage 1 left as it was, the norm itself.
    """
    found = []
    for layer, value in own.items():
        norm = float(start[layer].norm())
        found.append(float((value - start[layer]).norm()) / (norm or 1.0))
    return np.array(found)


def _layer_of(parameter: str, group: int) -> str:
    """The layer that a parameter adapts, by the parameter's name."""
    if parameter.startswith(f"networks.{group}."):
        return parameter.removeprefix(f"networks.{group}.").rpartition(".")[0] or "gates"
    before = parameter.removeprefix("foundation.model.").split(f".group_{group}")[0]
    return before.rpartition(".")[0] or before
