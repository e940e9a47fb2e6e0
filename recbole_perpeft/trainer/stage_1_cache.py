"""Stage 1 trained once: where runs that differ only in what comes after it find what it ends with.

Runs with groups take its best state; one of global PEFT, whose epochs stage 1's are as well, goes on from its last.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from recbole.trainer import Trainer
from torch import nn

from recbole_perpeft.config.identity import counting
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.config.table import Kind, of_kind
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer.carry_over import LEARNT
from recbole_perpeft.trainer.standing import stand_at, standing_of, take_best

FORMAT = 3  # of the files: those of another are not found
GROUP_SETTINGS = of_kind(Kind.GROUPS)


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


def share(trainer: Trainer, file: str | Path) -> None:
    """Let ``trainer`` begin after what stage 1 has left in ``file``, or leave it there for others when it ends.

    A run that begins so ends as one that has trained stage 1 itself, if ``file`` is that of :func:`file_of`. With
    groups, stage 3 is next; with ``num_groups: 1`` training goes on, if it would have validated there too. One that
    stands somewhere already goes on there.

    Parameters
    ----------
    trainer
        A :class:`~recbole_perpeft.trainer.trainer.PerPEFTTrainer`.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or does not fit.
    """
    trainer.stage_1_file, config = Path(file), trainer.config
    if trainer.start_epoch or not trainer.stage_1_file.is_file():
        return
    state = trainer.checkpoint.read_stage_1(file, without=GROUP_SETTINGS)
    if config["num_groups"] > 1:
        state["state_dict"] = for_other_groups(state["state_dict"], trainer.model.state_dict())
        take_best(trainer, state)
        trainer.start_epoch = config["global_epochs"]
    elif config["eval_step"] and (state["epoch"] + 1) % config["eval_step"]:
        return  # its last epoch was validated because the stage ended
    else:
        stand_at(trainer, for_one_group(state, trainer.model, trainer.optimizer), file)
    trainer.logger.info(f"Stage 1 was trained by a run before, best in epoch {trainer.best_epoch}: {file}.")


def leave(trainer: Trainer) -> None:
    """Where stage 1 of ``trainer`` ends, leave it for others, before the best state is put back: some go on from it."""
    file = trainer.stage_1_file
    if file and trainer.config["num_groups"] > 1 and not file.is_file():
        state = by_name(standing_of(trainer, trainer.epoch), trainer.model, trainer.optimizer)
        known = {"settings": trainer.config.settings(), "sources": sources_hash()}
        checkpoint_file.write(file, {"stage_1": {**state, **known}})


def for_other_groups(saved: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state of stage 1 for a model with another number of groups, each of which stage 3 starts from the first.

    Parameters
    ----------
    saved
        The state of a model with some number of groups.
    present
        That of the model that takes it: what only this one has, or has in another shape, stays. What modules learn
        likeness by it does not have yet.
    """
    fits = {key for key, value in present.items() if key in saved and saved[key].shape == value.shape}
    learnt = {key: saved[key] for key in LEARNT if key in saved}
    return {key: saved[key] if key in fits else value for key, value in present.items()} | learnt


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
