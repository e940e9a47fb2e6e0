"""A group's adapters merged into the foundation model's weights for a time."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from peft import PeftType
from peft.tuners.tuners_utils import BaseTunerLayer

# Methods whose modules peft adds to (or scales) the weights of a layer, so that they can be put back untouched.
MERGEABLE = {PeftType.LORA, PeftType.IA3}


@contextlib.contextmanager
def merged(layers: Sequence[BaseTunerLayer], adapter: str, dtype: torch.dtype) -> Iterator[None]:
    """Merge an adapter into the weights of its layers, which are the same bits again afterwards.

    Parameters
    ----------
    layers
        Those that peft adapts.
    adapter
        peft's name of what is merged.
    dtype
        Of the merged weights.
    """
    weights = [
        (parameter, parameter.data)
        for layer in layers
        for parameter in layer.get_base_layer().parameters(recurse=False)
    ]
    try:
        for parameter, exact in weights:
            parameter.data = exact.clone()
        for layer in layers:
            layer.merge(adapter_names=[adapter])
        for parameter, _ in weights:
            parameter.data = parameter.data.to(dtype)
        yield
    finally:
        for parameter, exact in weights:
            parameter.data = exact
        for layer in layers:
            layer.merged_adapters.clear()  # peft's unmerge would subtract, and leave rounding errors
