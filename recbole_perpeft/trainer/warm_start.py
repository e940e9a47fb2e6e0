"""A run, or scores, that start from the best state of a checkpoint, on the data as they are now (``warm_start``)."""

from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path

from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score

from recbole_perpeft.config import Config
from recbole_perpeft.config.identity import differing
from recbole_perpeft.config.settings import shown
from recbole_perpeft.model.catalogue_axes import ITEMS, USERS
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer.carry_over import carry_over, has_new_terms, places_of, untrained_now
from recbole_perpeft.trainer.checkpoint_settings import config_of
from recbole_perpeft.trainer.recbole_checkpoint import is_recbole_checkpoint, model_named_in
from recbole_perpeft.trainer.stage import Stage
from recbole_perpeft.trainer.standing import standing_of
from recbole_perpeft.trainer.term_weights import find_term_weights
from recbole_perpeft.utils.errors import CheckpointError, MisfitError, SettingError

_OF_ENCODER = ("encoder", "encoder hash", "precision")  # of the inputs; data and content may be others


def starting_config(
    file: str | Path,
    given: dict,
    model: str | type | None = None,
    dataset: str | None = None,
    command_line: Sequence[str] = (),
) -> Config:
    """The settings of a run that starts from ``file``: those of the checkpoint with what is given besides.

    If its users are grouped there is no stage 1 any more: ``global_epochs`` is 0. Else, where ``epochs`` are given
    alone, stage 1 gets half of them.

    Parameters
    ----------
    file
        The checkpoint.
    given, model, dataset, command_line
        As for :class:`~recbole_perpeft.config.Config`; they go before those of the checkpoint.

    Raises
    ------
    CheckpointError
        If it cannot be read, does not tell its users and items, or is of another model, of RecBole's or of a backbone
        with item features.
    SettingError
        As Config; and if ``global_epochs`` are asked of a checkpoint whose users are grouped.
    """
    state = _read(file)
    saved, asked = dict(state["settings"]), model or given.get("model")
    name = getattr(asked, "__name__", asked)
    if name not in (None, saved["model"]):
        raise MisfitError(
            f"warm_start: {file} is a checkpoint of {saved['model']}, from which {name} cannot start. Leave model out, "
            f"or give a checkpoint of {name}."
        )
    saved["warm_start"] = str(file)  # and not that of its own start
    names = given.keys() | {word.removeprefix("--").partition("=")[0] for word in command_line}
    if "unbought_items" in names and "load_col" not in names:
        saved.pop("load_col", None)  # which follows from it
    if _is_grouped(state):
        if "global_epochs" in names:
            raise SettingError(
                f"global_epochs is not possible with {file}, whose users are grouped: training goes on in stage 3. "
                "Leave it out."
            )
        saved["global_epochs"] = 0
    elif "epochs" in names and "global_epochs" not in names:
        saved.pop("global_epochs", None)
    config = config_of(saved, file, given, model, dataset, command_line)
    if config.internal_config_dict.get("selected_features"):  # a backbone with item features
        raise CheckpointError(
            f"{file} cannot be put on other data: {saved['model']} reads item features (selected_features: "
            f"{config['selected_features']}), of whose values a checkpoint does not tell which row is whose. Train it "
            "again."
        )
    return config


def start_from(trainer: Trainer, file: str | Path, train_data, valid_data) -> None:
    """Let ``trainer``, on the data of now, stand at the start of a training with the best state in ``file``.

    Its best state is that one. Where users are grouped, those who train now and have no group get theirs by the rule of
    the groups. Where scores have a term that they had not then, the validation finds the terms' weights.

    Parameters
    ----------
    trainer
        A :class:`~recbole_perpeft.trainer.trainer.PerPEFTTrainer`, which has done nothing yet.
    train_data, valid_data
        Its loaders of training and validation.

    Raises
    ------
    CheckpointError
        If the file cannot be read, does not tell its users and items, is of another encoder or of settings that give
        weights other shapes, or has no item in common with the data.
    """
    state, config, model, dataset = _read(file), trainer.config, trainer.model, train_data._dataset
    identity = trainer.checkpoint.identity
    present = {key: identity[key] for key in _OF_ENCODER if key in identity}
    checkpoint_file.check_inputs(file, state["identity"], present)
    others = differing(state["settings"], config.settings())
    of_course = {"global_epochs", "warm_start"}  # follow from the start itself
    said = [f"{key}: {shown(then)} in the checkpoint, {shown(now)} now" for key, (then, now) in others.items()
            if key not in of_course]  # fmt: skip
    if said:
        getLogger().warning(f"Not as in {file}: {'; '.join(said)}.")
    try:
        carried = carry_over(state["state_dict"], state["ids"], model, dataset)
    except MisfitError as error:
        cure = f" Not as in the checkpoint: {'; '.join(said)}." if said else ""
        raise MisfitError(f"Checkpoint {file} does not fit this run. {error}.{cure}".replace("..", ".")) from error
    untrained = untrained_now(state["ids"], model, dataset)
    trainer.checkpoint.load(carried, file)
    model.item_tower.untrained = untrained
    model.forget()
    _say(file, state["ids"], dataset)
    grouped = _is_grouped(state)
    if grouped and (new := model.group_new(train_data.histories)):
        getLogger().info(f"{new} users who have no group yet got theirs by the rule of the groups.")
    trainer.begin_stage(Stage.PERSONALISED if grouped else Stage.GLOBAL)
    if config["eval_step"] and has_new_terms(state["state_dict"], model):
        find_term_weights(trainer, valid_data)
    trainer.checkpoint.keep_best()


def take_start(trainer: Trainer, valid_data, saved: bool) -> None:
    """Let the start of :func:`start_from` be a candidate, which stays if no epoch is better, and write it.

    Parameters
    ----------
    trainer
        A :class:`~recbole_perpeft.trainer.trainer.PerPEFTTrainer` at its start.
    valid_data
        Its validation loader.
    saved
        Whether checkpoints are written.
    """
    if trainer.config["eval_step"]:
        result = trainer.evaluate(valid_data, load_best_model=False)
        trainer.best_valid_result, trainer.best_valid_score = (
            result,
            calculate_valid_score(result, trainer.valid_metric),
        )
        getLogger().info(f"The start has {trainer.valid_metric} {trainer.best_valid_score:.4f} in validation.")
    if saved:
        trainer.checkpoint.write({"stage": trainer.stage.value, **standing_of(trainer, epoch=-1)})


def _read(file: str | Path) -> dict:
    """What a checkpoint holds of a PerPEFT model, with its users and items."""
    if is_recbole_checkpoint(file):
        raise CheckpointError(
            f"{file} is a checkpoint of {model_named_in(file)}, which does not tell its users and items: only PerPEFT "
            "models can start from one, or be put on new data. Train it again."
        )
    state = checkpoint_file.read(file)
    if "ids" not in state:
        raise CheckpointError(
            f"{file} does not tell its users and items, for an older build wrote it: it opens with the data of then "
            "only. Resume it there for an epoch (resume, and epochs: one more than it had), and it will tell them."
        )
    return state


def _is_grouped(state: Mapping) -> bool:
    """Whether the best state of a checkpoint is of stage 3: padding is in no group."""
    return bool(state["state_dict"]["user_groups"][0] < 0)


def _say(file: str | Path, ids: Mapping, dataset) -> None:
    """Log how many users and items are new and gone."""
    parts = [
        f"{found.n_now - 1} {kind}, {found.n_new} of them new and {found.n_gone} of then gone"
        for kind, found in ((kind, places_of(ids, dataset)[kind]) for kind in (USERS, ITEMS))
    ]
    getLogger().info(f"From {file}: {'; '.join(parts)}.")
