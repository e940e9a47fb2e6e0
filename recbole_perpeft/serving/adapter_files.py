"""Groups' modules as files: adapters in the peft library's own format, side networks as tensors; and back."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from recbole_perpeft.encoder.foundation.pair import EncoderPair
from recbole_perpeft.encoder.iisan.encoder import SideNetworkItemEncoder
from recbole_perpeft.encoder.item_encoder import ItemEncoder
from recbole_perpeft.encoder.peft.adapters import PeftItemEncoder
from recbole_perpeft.serving.bundle_files import Bundle, write_tensors
from recbole_perpeft.utils.errors import BundleError

FOLDER = "adapters"
_WEIGHTS, _SIDE_NETWORKS = "adapter_model.safetensors", "side_networks.safetensors"
_START = "base_model.model."  # of peft's names for what is inside a base model
_PATTERNS = ("rank_pattern", "alpha_pattern")


def write_adapters(encoder: ItemEncoder, folder: Path, names: Mapping[str, str | None]) -> None:
    """Write every group's module into ``folder/group_<g>``; nothing, if there is none.

    ``PeftModel.from_pretrained(base, folder)`` puts an adapter into its base model: the dual encoder as ``AutoModel``
    loads it, or, from the folders ``image`` and ``text``, the two encoders that stand side by side.

    Parameters
    ----------
    names
        What the base models are called, by modality, or under ``""`` for a dual encoder.
    """
    for group in range(encoder.num_groups):
        place = folder / f"group_{group}"
        if isinstance(encoder, SideNetworkItemEncoder):
            write_tensors(place / _SIDE_NETWORKS, encoder.networks[group].state_dict())
        elif isinstance(encoder, PeftItemEncoder):
            state = get_peft_model_state_dict(
                encoder.peft_model, adapter_name=f"group_{group}", save_embedding_layers=False
            )
            for modality, base in _bases(encoder).items():
                config = _config_of(encoder, group, modality)
                config.base_model_name_or_path = names.get(modality)
                (place / modality).mkdir(parents=True)
                made_for = {"base_model_class": type(base).__name__, "parent_library": type(base).__module__}
                config.save_pretrained(place / modality, auto_mapping_dict=made_for)
                write_tensors(place / modality / _WEIGHTS, _of_base(state, modality))


def read_adapters(encoder: ItemEncoder, bundle: Bundle) -> None:
    """Put what :func:`write_adapters` wrote into an encoder that was made with the same settings.

    Raises
    ------
    BundleError
        If the modules do not fit.
    """
    for group in range(encoder.num_groups):
        place = f"{FOLDER}/group_{group}"
        try:
            if isinstance(encoder, SideNetworkItemEncoder):
                encoder.networks[group].load_state_dict(bundle.tensors(f"{place}/{_SIDE_NETWORKS}"))
            elif isinstance(encoder, PeftItemEncoder):
                _read_adapter(encoder, group, bundle, place)
        except RuntimeError as error:  # of other sizes
            raise BundleError(f"{bundle.folder / place} does not fit the encoder: {error}") from error


def _read_adapter(encoder: PeftItemEncoder, group: int, bundle: Bundle, place: str) -> None:
    state: dict[str, torch.Tensor] = {}
    for modality in _bases(encoder):
        inside = _START + _prefix(modality)
        for name, value in bundle.tensors("/".join(filter(None, (place, modality, _WEIGHTS)))).items():
            state[inside + name.removeprefix(_START) if name.startswith(_START) else name] = value
    name = f"group_{group}"
    expected = get_peft_model_state_dict(encoder.peft_model, adapter_name=name, save_embedding_layers=False)
    if state.keys() != expected.keys():
        other = sorted(state.keys() ^ expected.keys())
        raise BundleError(f"{bundle.folder / place} has an adapter of other layers than the encoder: {other[0]}.")
    set_peft_model_state_dict(encoder.peft_model, state, adapter_name=name)


def _bases(encoder: PeftItemEncoder) -> dict[str, nn.Module]:
    """The models that hold adapters, by modality; a dual encoder under ``""``."""
    model = encoder.foundation.model
    if not isinstance(model, EncoderPair):
        return {"": model}
    return {modality: getattr(model, modality) for modality in encoder.foundation.modalities}


def _prefix(modality: str) -> str:
    return f"{modality}." if modality else ""


def _of_base(state: Mapping[str, torch.Tensor], modality: str) -> dict[str, torch.Tensor]:
    """Those of one base model, by its own names, and what all layers share."""
    inside = _START + _prefix(modality)
    return {
        _START + name.removeprefix(inside) if name.startswith(inside) else name: value
        for name, value in state.items()
        if name.startswith(inside) or not name.startswith(_START)
    }


def _config_of(encoder: PeftItemEncoder, group: int, modality: str) -> PeftConfig:
    """peft's configuration of an adapter, which names the layers as the base model itself does, each in full."""
    config = copy.deepcopy(encoder.peft_model.peft_config[f"group_{group}"])
    prefix = _prefix(modality)
    layers = {
        name.removeprefix(prefix): module
        for name, module in encoder.foundation.model.named_modules()
        if isinstance(module, BaseTunerLayer) and name.startswith(prefix)
    }
    config.target_modules = sorted(layers)
    if hasattr(config, "feedforward_modules"):
        config.feedforward_modules = sorted(name for name, layer in layers.items() if layer.is_feedforward)
    if hasattr(config, "exclude_modules"):
        config.exclude_modules = None
    for field in _PATTERNS:
        if getattr(config, field, None):
            patterns = getattr(config, field)
            setattr(config, field, {name.removeprefix(prefix): value for name, value in patterns.items()})
    config.inference_mode = True
    return config
