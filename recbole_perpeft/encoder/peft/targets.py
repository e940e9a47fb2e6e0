"""Which layers of a foundation model get adapters, and a peft configuration that says so."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from peft import PeftConfig
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.peft.adapter_checks import idle_layers
from recbole_perpeft.encoder.peft.methods import fitting_sizes, method_settings
from recbole_perpeft.utils.errors import EncoderError, first_line

# How architectures name these layers; the first line whose names all occur in a tower counts. Where none does, peft's
# own table of LoRA's layers is asked. It comes second, for it has feed-forward layers of some models too (Phi).
_QUERY_VALUE = (
    ("q_proj", "v_proj"),  # CLIP, SigLIP, ViT
    ("query", "value"),  # BERT, RoBERTa, BEiT
    ("q_lin", "v_lin"),  # DistilBERT
    ("q", "v"),  # MPNet
    ("qkv",),  # BLIP's image tower
)
# Of (IA)3 peft's table is not asked: what it has of BERT and its like scales other layers (output.dense) than these.
_KEY_VALUE = (
    ("k_proj", "v_proj"),
    ("key", "value"),
    ("k_lin", "v_lin"),
    ("key_proj", "value_proj"),
    ("k", "v"),
    ("qkv",),
)
_FEED_FORWARD = (("fc1",), ("intermediate.dense",), ("lin1",))  # CLIP and ViT; BERT; DistilBERT


def make_peft_config(peft_type: str, settings: Mapping[str, Any] | None, foundation: FoundationModel) -> PeftConfig:
    """Build the peft configuration of every group's module.

    Parameters
    ----------
    peft_type : str
        A name of :func:`~recbole_perpeft.encoder.peft.methods.usable_peft_types`, in any case. LORA and IA3 have the
        paper's defaults, the others peft's, on LoRA's layers; LN_TUNING adapts the layer norms.
    settings : mapping, optional
        ``peft_config``: fields of peft's configuration class, which replace the defaults.
    foundation : FoundationModel
        The model that is adapted; the layers are looked up in it.

    Returns
    -------
    PeftConfig

    Raises
    ------
    EncoderError
        If the method or a field does not exist, peft refuses a value, or a tower has no layer of these names.
    """
    name, cls, settings = method_settings(peft_type, settings)
    if settings.get("target_modules") is None:
        settings["target_modules"] = _default_targets(name, foundation)
    _check_targets(settings["target_modules"], foundation)
    if name == "IA3" and "feedforward_modules" not in settings:
        settings["feedforward_modules"] = _feed_forward_of(settings["target_modules"], foundation)
    if foundation.cuts:
        for field in {"target_modules", "feedforward_modules"} & set(settings):
            settings[field] = _above_cut(settings[field], foundation)
        if not settings["target_modules"]:
            raise EncoderError("peft_layers: none of target_modules is in these layers. Set peft_layers higher, or ~.")
    _leave_out_idle(settings, foundation)
    try:
        return cls(**(fitting_sizes(name, _linear(settings["target_modules"], foundation)) | settings))
    except Exception as error:  # each configuration class checks its values in its own way
        raise EncoderError(f"peft_config: peft refuses it for {name} ({first_line(error)}). Correct it.") from error


def layer_names(foundation: FoundationModel, modality: str) -> list[str]:
    """Return the short names of a tower's linear layers, by which ``target_modules`` can call them."""
    names = set()
    for name, module in foundation.tower_modules(modality).items():
        if isinstance(module, nn.Linear):
            *_, parent, last = ("", *name.split("."))
            # "dense" alone would call every linear layer of a BERT
            names.add(f"{parent}.{last}" if last == "dense" or last.isdigit() else last)
    return sorted(names)


def _default_targets(name: str, foundation: FoundationModel) -> list[str]:
    if name == "LN_TUNING":
        return _layer_norms(foundation)
    families = (_KEY_VALUE, _FEED_FORWARD) if name == "IA3" else (_QUERY_VALUE,)
    targets = set()
    for modality in foundation.modalities:
        for family in families:
            found = _first_present(family, foundation, modality)
            if not found and family is _QUERY_VALUE:
                found = _of_peft(foundation, modality)
            if not found:
                raise EncoderError(
                    f"peft_config: the {modality} encoder has none of the layers that {name} adapts by "
                    f"default. Set target_modules in peft_config, from {_all_layer_names(foundation)}."
                )
            targets.update(found)
    return sorted(targets)


def _of_peft(foundation: FoundationModel, modality: str) -> tuple[str, ...]:
    """LoRA's layers in peft's table, if it has the type of a tower's model."""
    for module in foundation.tower_modules(modality).values():
        model_type = getattr(getattr(module, "config", None), "model_type", None)
        names = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type)
        if isinstance(names, list):  # of some it has a regular expression, which looks at both towers
            return _first_present((tuple(names),), foundation, modality)
    return ()


def _layer_norms(foundation: FoundationModel) -> list[str]:
    names = [
        name
        for modality in foundation.modalities
        for name, module in foundation.tower_modules(modality).items()
        if isinstance(module, nn.LayerNorm)
    ]
    if not names:
        raise EncoderError(f"peft_config: {foundation.name} has no layer norms for LN_TUNING. Choose another method.")
    return sorted(names)


def _linear(targets: list[str] | str, foundation: FoundationModel) -> list[nn.Linear]:
    """The linear layers that ``targets`` call."""
    return [module for name, module in _called(targets, foundation).items() if isinstance(module, nn.Linear)]


def _first_present(family: tuple[tuple[str, ...], ...], foundation: FoundationModel, modality: str) -> tuple[str, ...]:
    linear = [name for name, m in foundation.tower_modules(modality).items() if isinstance(m, nn.Linear)]
    for names in family:
        if all(any(_is_called(name, target) for name in linear) for target in names):
            return names
    return ()


def _feed_forward_of(targets: list[str] | str, foundation: FoundationModel) -> list[str]:
    """Choose which targets (IA)3 scales at their input."""
    usual = {name for names in _FEED_FORWARD for name in names}
    if not isinstance(targets, str):
        return sorted(usual & set(targets))
    return sorted({name for m in foundation.modalities for name in usual if _first_present(((name,),), foundation, m)})


def _check_targets(targets: Any, foundation: FoundationModel) -> None:
    """Check that every name calls a layer, and that every tower has one of them."""
    if targets == "all-linear":
        return
    if not isinstance(targets, str | list | tuple | set) or not targets:
        raise EncoderError(
            f"peft_config: target_modules {targets!r} is neither a list of layer names nor a regular "
            f"expression. Choose from {_all_layer_names(foundation)}."
        )
    if isinstance(targets, str):
        try:
            pattern = re.compile(targets)
        except re.error as error:
            raise EncoderError(
                f"peft_config: target_modules {targets!r} is no regular expression ({error}). Correct it, "
                "or give a list of layer names."
            ) from error
    towers = {modality: list(foundation.tower_modules(modality)) for modality in foundation.modalities}
    if not isinstance(targets, str):
        every = [name for names in towers.values() for name in names]
        for target in targets:
            if not any(_is_called(name, str(target)) for name in every):
                raise EncoderError(
                    f"peft_config: target_modules has {target!r}, but no layer is called that. "
                    f"Choose from {_all_layer_names(foundation)}."
                )
    for modality, names in towers.items():
        found = (
            any(pattern.fullmatch(name) for name in names)
            if isinstance(targets, str)
            else any(_is_called(name, str(target)) for name in names for target in targets)
        )
        if not found:
            raise EncoderError(
                f"peft_config: target_modules {targets!r} matches no layer of the {modality} encoder. Add one "
                f"of {', '.join(layer_names(foundation, modality))}."
            )


def _above_cut(targets: list[str] | str, foundation: FoundationModel) -> list[str]:
    """Full names of the layers that ``targets`` call, without those that a cut leaves behind."""
    return sorted(set(_called(targets, foundation)) - foundation.below_cut)


def _leave_out_idle(settings: dict[str, Any], foundation: FoundationModel) -> None:
    """Take layers out of ``settings`` whose adapters would never train; the log names them.

    Raises
    ------
    EncoderError
        If an encoder has no other layers among ``target_modules``.
    """
    called, idle = _called(settings["target_modules"], foundation), set()
    for modality in foundation.modalities:
        layers = {name: called[name] for name in foundation.tower_modules(modality) if name in called}
        layers = {name: module for name, module in layers.items() if name not in foundation.below_cut}
        of_modality = idle_layers(foundation, modality, layers)
        idle |= of_modality
        if of_modality == set(layers):
            names = ", ".join(layer_names(foundation, modality)) or "none: it has no linear layers"
            why = f", but for such on which no feature depends ({', '.join(sorted(idle))})" if of_modality else ""
            above = " above the cut of peft_layers" if foundation.cuts else ""
            raise EncoderError(
                f"peft_config: target_modules {settings['target_modules']!r} calls no layer of the {modality} encoder"
                f"{above}{why}, so nothing of it would train. Choose from {names}."
            )
    if idle:
        for field in {"target_modules", "feedforward_modules"} & set(settings):
            settings[field] = sorted(set(_called(settings[field], foundation)) - idle)
        logging.getLogger().warning(
            f"peft_config: {len(idle)} of the layers that target_modules calls get no adapter, which would never "
            f"train, for no feature depends on their outputs: {', '.join(sorted(idle))}"
        )


def _called(targets: list[str] | str, foundation: FoundationModel) -> dict[str, nn.Module]:
    """The modules that ``targets`` call, by their full names."""
    modules = {name: m for modality in foundation.modalities for name, m in foundation.tower_modules(modality).items()}
    if targets == "all-linear":
        return {name: module for name, module in modules.items() if isinstance(module, nn.Linear | Conv1D)}
    if isinstance(targets, str):
        return {name: module for name, module in modules.items() if re.fullmatch(targets, name)}
    return {name: m for name, m in modules.items() if any(_is_called(name, str(target)) for target in targets)}


def _is_called(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")  # as peft matches names in a list


def _all_layer_names(foundation: FoundationModel) -> str:
    return "; ".join(f"{m}: {', '.join(layer_names(foundation, m)) or 'none'}" for m in foundation.modalities)
