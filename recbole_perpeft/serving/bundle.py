"""A bundle: a folder without a pickle, from which a recommender is opened without its data and its checkpoint."""

import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from logging import getLogger
from pathlib import Path, PurePath

import torch
from recbole.data.dataset import Dataset
from recbole.utils import ModelType, init_seed
from torch import nn

from recbole_perpeft.config import Config
from recbole_perpeft.config.identity import CHANGEABLE, PLACES, PROTOCOL, differing
from recbole_perpeft.config.registry import is_perpeft, reads_content
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.config.table import as_they_were
from recbole_perpeft.data.dataset import GeneralDataset, SequenceDataset, SequencePurchases, dataset_class
from recbole_perpeft.encoder.foundation.precision import PRECISIONS
from recbole_perpeft.likeness.similarity import LikenessMap
from recbole_perpeft.model.content_term import FROZEN
from recbole_perpeft.serving.absent_encoder import AbsentItemEncoder
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
from recbole_perpeft.trainer.checkpoint_settings import config_of
from recbole_perpeft.utils.errors import BundleError, PerPEFTError
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
    from recbole_perpeft.quick_start import load  # late: to open a bundle none of this is imported

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
        "sources": sources_hash(),
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
    """Refuse models whose data are more than purchases and columns, and those that read features of no tower."""
    kind, ours = dataset_class(config["model"], config["MODEL_TYPE"]), is_perpeft(config.model_class)
    if (
        config["MODEL_TYPE"] not in (ModelType.SEQUENTIAL, ModelType.GENERAL, ModelType.TRADITIONAL)
        or kind not in (SequenceDataset, GeneralDataset)
        or (reads_content(config.model_class) and not ours)
    ):
        raise BundleError(
            f"model: {config['model']} has no bundle: these hold PerPEFT models and RecBole's sequential, general and "
            "traditional recommenders that read no knowledge graph and no negatives. Use its checkpoint."
        )


def _portable(settings: dict) -> dict:
    """``settings`` without the places of this machine; of an encoder's folder, and of a start's file, the name."""
    kept = {key: value for key, value in settings.items() if key not in PLACES}
    if settings.get("warm_start"):  # by which epochs: 0 is possible
        kept["warm_start"] = PurePath(settings["warm_start"]).name
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
    from recbole_perpeft.serving.adapter_files import FOLDER as ADAPTERS
    from recbole_perpeft.serving.adapter_files import write_adapters

    tower, term, encoder = model.item_tower, model.item_tower.content_term, model.item_tower.encoder
    for group in range(1 if tower.by_user else model.num_groups):  # as users see items, all groups have one table
        with tower.catalogue(group):
            write_array(place / _TABLES / f"group_{group}.npy", tower.weight.cpu().numpy())
    if term is not None and (term.is_used or term.is_learnt):
        for module, table in term.tables.items():
            write_array(place / _TABLES / f"content_{module}.npy", table.cpu().numpy())
            likeness = term.maps[module]
            whole = torch.cat([likeness.mean[None], likeness.factor])  # [d + 1, d]
            write_array(place / _TABLES / f"likeness_{module}.npy", whole.cpu().numpy())
            if likeness.bend is not None:
                up, down = likeness.bend
                write_array(place / _TABLES / f"bend_{module}.npy", torch.cat([up.T, down]).cpu().numpy())  # [2 r, d]
    if getattr(model, "similar_items", None) is not None:
        write_array(place / _SIMILAR, model.similar_items.cpu().numpy())
    write_array(place / "users" / "groups.npy", model.user_groups.cpu().numpy())
    names = {modality: config[key] and _name_of(config[key]) for modality, key in _ENCODERS.items()}
    if config["item_features"]:
        names = {"": encoder.foundation.name, "image": None, "text": None}
    write_adapters(encoder, place / ADAPTERS, names)
    used = ("image", "text") if names["image"] or names["text"] else ("",)
    return {
        "name": " + ".join(names[modality] for modality in used if names[modality]),
        "names": [names[modality] for modality in used if names[modality]],
        "hash": encoder.foundation.fingerprint(),
        "precision": next(name for name, dtype in PRECISIONS.items() if dtype == encoder.item_features.dtype),
        "modules": encoder.num_groups,
        "feature_dim": encoder.feature_dim,
        "untrained": tower.untrained,
    }


def _own_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """All that was trained but the modules of the encoder, and what RecBole's trainers keep beside it."""
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(_ENCODER)}
    others = model.other_parameter().items() if hasattr(model, "other_parameter") else ()
    return state | {f"{_OTHER}{name}": value for name, value in others if isinstance(value, torch.Tensor)}


class _TriedConfig(Config):
    """Settings that have made an encoder, which is not made again: no library of encoders is asked about them."""

    def _check_encoder(self) -> None:
        pass

    def _without_effect(self) -> list[str]:
        return []


def open_bundle(
    folder: str | Path | Bundle, settings: dict | None = None, lists: bool = True
) -> tuple[Config, nn.Module, Dataset]:
    """Make model and data again from a bundle; nothing in it is executed.

    The foundation model is not loaded: tables tell how each group sees the items that there are.

    Parameters
    ----------
    folder
        What :func:`write_bundle` has written, or a copy of it; or the bundle there, whose files are checked already.
    settings
        Those of this machine, such as ``use_gpu`` or ``encoder``; or another way to measure the model (``topk``).
    lists
        Whether rows of sequential models have what was bought before them beside them; else it is made of rows by
        ``with_lists`` of the data set, in a fraction of the memory.

    Returns
    -------
    tuple
        ``(config, model, dataset)``: the model, which scores as it did, and the training part of its data, whose
        ``parts`` are this, the validation and the test part.

    Raises
    ------
    BundleError
        If it is no bundle, of another format, a file is missing or not as it was written, or another bundle takes its
        place meanwhile.
    SettingError
        If ``settings`` are not possible.
    """
    bundle = folder if isinstance(folder, Bundle) else Bundle.open(folder)
    folder = bundle.folder
    if bundle.facts.get("sources") != sources_hash():
        getLogger().warning(
            f"{folder} was written by another build of recbole_perpeft ({bundle.facts.get('versions')}): what differs "
            "between the two can change numbers."
        )
    saved = as_they_were(bundle.facts["settings"], ours="encoder" in bundle.facts)
    config = config_of(saved, bundle.folder, settings, kind=_TriedConfig)
    _check_kind(config)
    changed = differing(saved, config.settings()).keys() - PROTOCOL - CHANGEABLE
    if changed:
        raise BundleError(f"{folder} was made with other settings: leave {', '.join(sorted(changed))} out.")
    state, ours = bundle.tensors(_STATE), is_perpeft(config.model_class)
    others = {name.removeprefix(_OTHER): state.pop(name) for name in list(state) if name.startswith(_OTHER)}
    with random_state_kept():
        parts = read_data(config, bundle)
        for part in parts if lists and isinstance(parts[0], SequencePurchases) else ():
            part.make_lists()
        parts[0].parts = parts
        if ours:
            parts[0].item_encoder = AbsentItemEncoder(*bundle.encoder("modules", "feature_dim", "name"))
        # as before the training: some backbones draw what they keep of the purchases
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
        try:
            model = config.model_class(config, parts[0])
            model.load_state_dict(state)
            if ours:
                (model.item_tower.untrained,) = bundle.encoder("untrained")
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, PerPEFTError):
                raise
            raise BundleError(
                f"The settings, data and {_STATE} of {folder} do not make a {config['model']}: {error}. Export it anew."
            ) from error
    model = model.to(config["device"])
    if others:
        model.load_other_parameter({name: value.to(config["device"]) for name, value in others.items()})
    if ours:
        _keep_tables(model, bundle)
    bundle.check_is_there()
    return config, model.eval(), parts[0]


def _keep_tables(model: nn.Module, bundle: Bundle) -> None:
    """Let the item tower have what it had computed, so that it needs no encoder."""
    tower, there = model.item_tower, bundle.names(f"{_TABLES}/")

    def tables(kind: str, keys: Iterable[int | str]) -> dict[int | str, torch.Tensor]:
        files = {key: f"{_TABLES}/{kind}_{key}.npy" for key in keys}
        return {key: _tensor(bundle, file, model.device) for key, file in files.items() if file in there}

    of_groups = tables("group", range(model.num_groups))
    of_term = tables("content", [*range(tower.encoder.num_groups), FROZEN])
    if tower.by_user:
        of_groups = {group: of_groups[0] for group in range(model.num_groups) if of_groups}
    width = tower.encoder.feature_dim if tower.by_user else tower.embedding_dim
    for group in range(model.num_groups):
        if group not in of_groups or of_groups[group].shape[1:] != (width,):
            raise BundleError(f"{bundle.folder / _TABLES} lacks a table of width {width} for group {group}.")
    tower.keep(of_groups)
    if of_term:
        bends = {module: both.chunk(2) for module, both in tables("bend", of_term).items()}
        maps = {
            module: LikenessMap(
                whole[0], whole[1:], (bends[module][0].T, bends[module][1]) if module in bends else None
            )
            for module, whole in tables("likeness", of_term).items()
        }
        tower.content_term.keep(of_term, maps)
    else:
        tower.content_term = None  # without a weight it adds nothing
    if _SIMILAR in there:
        model.similar_items = _tensor(bundle, _SIMILAR, model.device)


def _tensor(bundle: Bundle, name: str, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(bundle.array(name)).to(device)
