"""Methods of the peft library: which can serve here, by which names, and sizes that fit the layers they adapt."""

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, PeftType, PromptLearningConfig
from torch import nn

from recbole_perpeft.utils.errors import EncoderError, nearest_name

# The paper's settings: LoRA on query and value projections.
_LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
# Names for an option of LoRA.
_ALIASES = {"DORA": {"use_dora": True}, "RSLORA": {"use_rslora": True}}
_REFUSED = {
    "ADALORA": "peft trains one adapter of this kind at a time, and every group needs its own",
    "POLY": "each forward pass would need the number of a task",
    "XLORA": "it mixes adapters that are trained already",
    "ADAPTION_PROMPT": "it is made for language models of one architecture",
    "TRAINABLE_TOKENS": "it trains embeddings of tokens, and no layer",
    "LILY": "layers share its parameters, so that a group's module cannot be copied to another",
    "SHADOW": "it runs a second model beside the first",
}
_PROMPTS = "prompt learning adds inputs, and no layer, to a language model"
# How LoRA may start: anything else changes the weights that all groups share, or reads data first.
_LORA_STARTS = (True, False, "gaussian", "orthogonal")
_OWN_FIELDS = {"peft_type", "inference_mode"}  # set by peft_type, and never true here


def usable_peft_types() -> list[str]:
    """Return the names of the methods that put adapters into layers."""
    methods = [
        peft_type.value
        for peft_type, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()
        if "target_modules" in config_fields(cls) and not _reason_against(peft_type.value)
    ]
    return sorted([*methods, *_ALIASES])


def config_class(peft_type: str) -> tuple[str, type[PeftConfig], dict[str, Any]]:
    """Find a method by its name, in any case.

    Returns
    -------
    tuple
        peft's name, peft's configuration class, and what the name stands for beside it.

    Raises
    ------
    EncoderError
        If there is no such method, or it cannot serve here; says why.
    """
    name = str(peft_type).upper()
    reason = _reason_against(name)
    if reason:
        raise EncoderError(f"peft_type: {name} cannot be used: {reason}. Choose another, such as LORA.")
    known = usable_peft_types()
    if name not in known:
        raise EncoderError(f"peft_type: {peft_type!r} is not known.{nearest_name(name, [*known, 'IISAN', 'NONE'])}")
    own = _ALIASES.get(name, {})
    name = "LORA" if own else name
    return name, PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name)], (_LORA | own if name == "LORA" else {})


def config_fields(cls: type[PeftConfig]) -> set[str]:
    """Return the names of a configuration's fields."""
    return {field.name for field in dataclasses.fields(cls)}


def method_settings(peft_type: str, settings: Mapping[str, Any] | None) -> tuple[str, type[PeftConfig], dict[str, Any]]:
    """What can be said of a method before there is a model to adapt.

    Parameters
    ----------
    peft_type : str
        A name of :func:`usable_peft_types`, in any case.
    settings : mapping, optional
        ``peft_config``: fields of peft's configuration class.

    Returns
    -------
    tuple
        peft's name, peft's configuration class, and ``settings`` over our defaults.

    Raises
    ------
    EncoderError
        If the method or a field does not exist, or LoRA's start would change shared weights or need data.
    """
    name, cls, defaults = config_class(peft_type)
    if not isinstance(settings or {}, Mapping):
        raise EncoderError(f"peft_config: {settings!r} is no mapping. Write fields and values, such as r: 4.")
    settings = copy.deepcopy(dict(settings or {}))
    fields = sorted(config_fields(cls) - _OWN_FIELDS)
    for field in settings:
        if field not in fields:
            raise EncoderError(f"peft_config: {name} has no field {field!r}.{nearest_name(str(field), fields)}")
    settings = defaults | settings
    start = settings.get("init_lora_weights", True)
    if start not in _LORA_STARTS:
        raise EncoderError(
            f"peft_config: init_lora_weights {start!r} changes weights that all groups share, or reads data first. "
            f"Set one of {', '.join(map(str, _LORA_STARTS))}."
        )
    return name, cls, settings


def fitting_sizes(name: str, layers: Sequence[nn.Linear]) -> dict[str, int]:
    """peft's default sizes of a method, made smaller where they do not fit the layers.

    Parameters
    ----------
    name
        peft's name of the method.
    layers
        The linear layers that are adapted.
    """
    sizes = [(layer.in_features, layer.out_features) for layer in layers]
    if not sizes:
        return {}
    smallest = min(min(size) for size in sizes)
    weights = min(fan_in * fan_out for fan_in, fan_out in sizes)
    common = math.gcd(*(number for size in sizes for number in size))
    return {
        "C3A": {"block_size": _divisor(common, 256)},
        "FOURIERFT": {"n_frequency": min(1000, weights)},
        "MISS": {"r": min(64, smallest)},
        "PSOFT": {"r": min(32, smallest)},
        "ROAD": {"group_size": _divisor(common, 64)},
        "SHIRA": {"r": min(32, *(fan_in * fan_out // (fan_in + fan_out) for fan_in, fan_out in sizes))},
        "VBLORA": {"vector_length": _divisor(common, 256)},
        "WAVEFT": {"n_frequency": min(2592, weights)},
    }.get(name, {})


def _divisor(number: int, most: int) -> int:
    return max(divisor for divisor in range(1, min(number, most) + 1) if number % divisor == 0)


def _reason_against(name: str) -> str | None:
    if name in _REFUSED:
        return _REFUSED[name]
    cls = PEFT_TYPE_TO_CONFIG_MAPPING.get(PeftType(name)) if name in PeftType.__members__ else None
    return _PROMPTS if cls is not None and issubclass(cls, PromptLearningConfig) else None
