"""A bundle: a folder without a pickle, from which a recommender is opened without its data and its checkpoint."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath

import torch
from recbole.data.dataset import Dataset
from recbole.utils import ModelType, init_seed
from torch import nn

from recbole_perpeft.config import Config
from recbole_perpeft.config.identity import CHANGEABLE, PLACES, PROTOCOL, differing
from recbole_perpeft.config.registry import is_perpeft, reads_content
from recbole_perpeft.content import ItemContent
from recbole_perpeft.encoder import FoundationModel, ItemEncoder
from recbole_perpeft.encoder.foundation.precision import PRECISIONS
from recbole_perpeft.model.tower_factory import adapted_encoder, foundation_of
from recbole_perpeft.quick_start import load
from recbole_perpeft.serving.absent_encoder import AbsentItemEncoder
from recbole_perpeft.serving.adapter_files import FOLDER as ADAPTERS
from recbole_perpeft.serving.adapter_files import read_adapters, write_adapters
from recbole_perpeft.serving.bundle_card import card
from recbole_perpeft.serving.bundle_data import read_data, write_data
from recbole_perpeft.serving.bundle_files import (
    CARD,
    Bundle,
    check_target,
    new_bundle,
    seal,
    write_array,
    write_tensors,
)
from recbole_perpeft.trainer.resuming import config_of
from recbole_perpeft.utils.errors import BundleError
from recbole_perpeft.utils.random_state import random_state_kept

_STATE, _TABLES, _SIMILAR = "model.safetensors", "tables", "tables/similar_items.npy"
_OTHER = "other_parameter/"  # what RecBole's models keep beside their state
_ENCODER = "item_tower.encoder."
_ENCODERS = {"": "encoder", "image": "image_encoder", "text": "text_encoder"}  # the settings, by modality
_PACKAGES = ("recbole-perpeft", "recbole", "torch", "transformers", "peft", "numpy", "pandas")


def write_bundle(
    checkpoint: str | Path, folder: str | Path, settings: dict | None = None, metrics: Mapping | None = None
) -> dict:
    """Write what a run has trained as a bundle.

    Parameters
    ----------
    checkpoint
        What a run wrote. That of one of RecBole's own models is a pickle, which can run any code when it is read: give
        only files that you trust. A bundle is none.
    folder
        Where it goes. A bundle that is there is replaced; a reader finds the old one or the new one, never a part.
    settings
        Those that have changed since the training, such as a moved ``data_path``.
    metrics
        ``validation`` and ``test``, each a metric's value by its name; the validation's are otherwise those that the
        checkpoint tells.

    Returns
    -------
    dict
        What ``bundle.json`` says.

    Raises
    ------
    BundleError
        If ``folder`` is something else, cannot be written, or the model is of a kind that a bundle cannot hold.
    CheckpointError
        As :func:`~recbole_perpeft.quick_start.load`.
    """
    check_target(folder)
    config, trainer, *loaders = load(checkpoint, settings)
    trainer.tensorboard.close()
    _check_kind(config)
    model, parts = trainer.model.eval(), [loader._dataset for loader in loaders]
    facts = {
        "model": config["model"],
        "dataset": config["dataset"],
        "settings": _portable(config.settings()),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "metrics": _metrics(trainer, metrics),
    }
    with new_bundle(folder) as place, torch.no_grad():
        facts["counts"] = write_data(config, parts, place)
        if is_perpeft(config.model_class):
            facts["encoder"] = _write_tower(config, model, place)
            facts["settings"]["precision"] = facts["encoder"]["precision"]  # auto is another on another machine
        write_tensors(place / _STATE, _own_state(model))
        manifest = seal(place, facts)
        (place / CARD).write_text(card(manifest), encoding="utf-8")
    return manifest


def _check_kind(config: Config) -> None:
    ours, kinds = is_perpeft(config.model_class), (ModelType.SEQUENTIAL, ModelType.GENERAL, ModelType.TRADITIONAL)
    if config["MODEL_TYPE"] not in kinds or (reads_content(config.model_class) and not ours):
        raise BundleError(
            f"model: {config['model']} has no bundle: these hold PerPEFT models and RecBole's sequential, general and "
            "traditional recommenders. Use its checkpoint."
        )


def _portable(settings: dict) -> dict:
    """``settings`` without the places of this machine; of an encoder's folder the name."""
    kept = {key: value for key, value in settings.items() if key not in PLACES}
    kept |= {key: _name_of(settings[key]) for key in _ENCODERS.values() if settings.get(key)}
    try:
        json.dumps(kept)
    except (TypeError, ValueError) as error:
        raise BundleError(f"The settings hold a value that no bundle can tell: {error}.") from error
    return kept


def _name_of(encoder: str) -> str:
    path = PurePath(encoder)
    return path.name if path.is_absolute() or encoder.startswith(("~", ".")) else encoder


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _metrics(trainer, given: Mapping | None) -> dict[str, dict[str, float]]:
    found = {"validation": getattr(trainer, "best_valid_result", None) or {}, **(given or {})}
    return {part: {name: float(value) for name, value in values.items()} for part, values in found.items()}


def _write_tower(config: Config, model: nn.Module, place: Path) -> dict:
    """Write what the item tower computes, and each group's module; gives what encoder it is."""
    tower, term, encoder = model.item_tower, model.item_tower.content_term, model.item_tower.encoder
    for group in range(1 if tower.by_user else model.num_groups):  # as users see items, all groups have one table
        with tower.catalogue(group):
            write_array(place / _TABLES / f"group_{group}.npy", tower.weight.cpu().numpy())
    if term is not None and term.is_used:
        for module, table in term.tables.items():
            write_array(place / _TABLES / f"content_{module}.npy", table.cpu().numpy())
    if getattr(model, "similar_items", None) is not None:
        write_array(place / _SIMILAR, model.similar_items.cpu().numpy())
    write_array(place / "users" / "groups.npy", model.user_groups.cpu().numpy())
    names = {modality: config[key] and _name_of(config[key]) for modality, key in _ENCODERS.items()}
    write_adapters(encoder, place / ADAPTERS, names)
    used = ("image", "text") if names["image"] or names["text"] else ("",)
    return {
        "name": " + ".join(names[modality] for modality in used if names[modality]),
        "names": [names[modality] for modality in used if names[modality]],
        "hash": encoder.foundation.fingerprint(),
        "precision": next(name for name, dtype in PRECISIONS.items() if dtype == encoder.item_features.dtype),
        "modules": encoder.num_groups,
        "feature_dim": encoder.feature_dim,
    }


def _own_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """All that was trained but the modules of the encoder, and what RecBole's trainers keep beside it."""
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(_ENCODER)}
    others = model.other_parameter().items() if hasattr(model, "other_parameter") else ()
    return state | {f"{_OTHER}{name}": value for name, value in others if isinstance(value, torch.Tensor)}


def open_bundle(folder: str | Path, settings: dict | None = None) -> tuple[Config, nn.Module, Dataset]:
    """Make model and data again from a bundle; nothing in it is executed.

    The foundation model is not loaded: tables tell how each group sees the items that there are.

    Parameters
    ----------
    folder
        What :func:`write_bundle` has written, or a copy of it.
    settings
        Those of this machine, such as ``use_gpu`` or ``encoder``; or another way to measure the model (``topk``).

    Returns
    -------
    tuple
        ``(config, model, dataset)``: the model, which scores as it did, and the training part of its data, whose
        ``parts`` are this, the validation and the test part.

    Raises
    ------
    BundleError
        If it is no bundle, of another format, or a file is missing or not as it was written.
    SettingError
        If ``settings`` are not possible.
    """
    bundle = Bundle.open(folder)
    config = config_of(bundle.facts["settings"], bundle.folder, settings)
    _check_kind(config)
    changed = differing(bundle.facts["settings"], config.settings()).keys() - PROTOCOL - CHANGEABLE
    if changed:
        raise BundleError(f"{folder} was made with other settings: leave {', '.join(sorted(changed))} out.")
    with random_state_kept():
        parts = read_data(config, bundle)
        parts[0].parts = parts
        ours = is_perpeft(config.model_class)
        if ours:
            facts = bundle.facts["encoder"]
            parts[0].item_encoder = AbsentItemEncoder(facts["modules"], facts["feature_dim"], facts["name"])
        init_seed(
            config["seed"] + config["local_rank"], config["reproducibility"]
        )  # some backbones draw what they keep
        model = config.model_class(config, parts[0]).to(config["device"])
    state = bundle.tensors(_STATE)
    others = {name.removeprefix(_OTHER): state.pop(name) for name in list(state) if name.startswith(_OTHER)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(f"{bundle.path(_STATE)} does not fit {config['model']}: {error}") from error
    if others:
        model.load_other_parameter({name: value.to(config["device"]) for name, value in others.items()})
    if ours:
        _keep_tables(model, bundle)
    return config, model.eval(), parts[0]


def _keep_tables(model: nn.Module, bundle: Bundle) -> None:
    """Let the item tower have what it had computed, so that it needs no encoder."""
    tower = model.item_tower

    def tables(kind: str) -> dict[int, torch.Tensor]:
        start, end = f"{_TABLES}/{kind}_", ".npy"
        numbers = sorted(int(name.removeprefix(start).removesuffix(end)) for name in bundle.names(start))
        return {number: _tensor(bundle, f"{start}{number}{end}", model.device) for number in numbers}

    of_groups, of_term = tables("group"), tables("content")
    tower.keep(dict.fromkeys(range(model.num_groups), of_groups[0]) if tower.by_user else of_groups)
    if of_term:
        tower.content_term.keep(of_term)
    else:
        tower.content_term = None  # without a weight it adds nothing
    if bundle.names(_SIMILAR):
        model.similar_items = _tensor(bundle, _SIMILAR, model.device)


def _tensor(bundle: Bundle, name: str, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(bundle.array(name)).to(device)


def load_foundation_of(folder: str | Path, config: Config) -> FoundationModel:
    """The foundation model that a bundle was trained on, to read new items with.

    Parameters
    ----------
    folder
        The bundle.
    config
        Of :func:`open_bundle`; ``encoder`` (``image_encoder``, ``text_encoder``) says where the model is.

    Raises
    ------
    EncoderError
        If it cannot be found.
    BundleError
        If it is another, or the bundle's model reads no content.
    """
    facts = Bundle.open(folder).facts
    if "encoder" not in facts:
        raise BundleError(f"{folder}: {facts['model']} reads no pictures and titles, so it has no encoder.")
    foundation, known = foundation_of(config), facts["encoder"]
    if foundation.fingerprint() != known["hash"]:
        raise BundleError(
            f"encoder: {foundation.name} is not the {known['name']} that the bundle {folder} was trained on: its "
            "weights or configuration are others. Set encoder (or image_encoder and text_encoder) to that one."
        )
    return foundation


def encoder_of(folder: str | Path, config: Config, foundation: FoundationModel, content: ItemContent) -> ItemEncoder:
    """The item encoder of a bundle with all groups' modules, to read ``content``, such as that of new items.

    Parameters
    ----------
    folder, config
        As of :func:`load_foundation_of`.
    foundation
        From :func:`load_foundation_of`; adapted in place.
    content
        Pictures and texts, prepared for ``foundation``.

    Returns
    -------
    ItemEncoder
        In eval mode, on the device of ``config``.

    Raises
    ------
    BundleError
        If the modules do not fit.
    """
    encoder = adapted_encoder(config, foundation, content).to(config["device"])
    read_adapters(encoder, Bundle.open(folder))
    return encoder.eval()
