"""Stage 1 trained once: where runs that differ only in what comes after it find what it ends with.

Runs with groups take its best state; one of global PEFT, whose epochs stage 1's are as well, goes on from its last.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from recbole_perpeft.config.identity import counting
from recbole_perpeft.config.sources import sources_hash

FORMAT = 3  # of the files: those of another are not found
# what stage 1 neither reads nor depends on
GROUP_SETTINGS = frozenset(
    {
        "num_groups", "grouping", "regroup_epochs", "group_mixing", "group_negatives", "epochs",
    }
)  # fmt: skip


def file_of(folder: Path, config, identity: Mapping[str, str]) -> Path | None:
    """The file in ``folder`` of the stage 1 that ``config`` asks for; None if nothing comes after it.

    Parameters
    ----------
    config
        All of its settings that can change a number count, the seed included, but :data:`GROUP_SETTINGS`.
    identity
        From :mod:`~recbole_perpeft.config.identity`.
    """
    if config["epochs"] <= config["global_epochs"]:
        return None
    settings = {key: value for key, value in counting(config.settings()).items() if key not in GROUP_SETTINGS}
    inputs = {key: value for key, value in identity.items() if key != "encoder"}  # wherever it lies
    content = json.dumps([FORMAT, sources_hash(), settings, inputs], sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return folder / f"{digest}.pth"


def for_other_groups(saved: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state of stage 1 for a model with another number of groups, each of which stage 3 starts from the first.

    Parameters
    ----------
    saved
        The state of a model with some number of groups.
    present
        That of the model that takes it: what only this one has, or has in another shape, stays.
    """
    fits = {key for key, value in present.items() if key in saved and saved[key].shape == value.shape}
    return {key: saved[key] if key in fits else value for key, value in present.items()}


def by_name(state: dict, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """``state``, a trainer's, with what belongs to single parameters under their names.

    Parameters
    ----------
    state
        Among others ``optimizer`` and ``average``, both by the place of a parameter.
    model, optimizer
        Of the trainer.
    """
    names = _names_in(optimizer, model)
    moments = {names[place]: value for place, value in state["optimizer"]["state"].items()}
    average = state["average"]
    if average:
        values = zip(_names(model, model.trainable_parameters()), average["values"], strict=True)
        average = {**average, "values": dict(values)}
    return {**state, "optimizer": moments, "average": average}


def for_one_group(state: dict, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """The reverse of :func:`by_name`, for a model that has one group's module alone.

    Parameters
    ----------
    state
        From :func:`by_name`, of a model with any number of groups.
    model, optimizer
        Of the trainer that takes it.
    """
    present, average = model.state_dict(), state["average"]
    names = enumerate(_names_in(optimizer, model))
    moments = {place: state["optimizer"][name] for place, name in names if name in state["optimizer"]}
    if average:
        values = [average["values"][name] for name in _names(model, model.trainable_parameters())]
        average = {**average, "values": values}
    return {
        **state,
        "state_dict": for_other_groups(state["state_dict"], present),
        "last_state_dict": for_other_groups(state["last_state_dict"], present),
        "optimizer": {"state": moments, "param_groups": optimizer.state_dict()["param_groups"]},
        "average": average,
    }


def _names_in(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    return _names(model, (parameter for group in optimizer.param_groups for parameter in group["params"]))


def _names(model: nn.Module, parameters: Iterable[nn.Parameter]) -> list[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in parameters]
