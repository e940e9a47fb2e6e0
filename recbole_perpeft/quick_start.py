"""Run a model from settings to its test score, as ``recbole.quick_start`` does (which needs ray and is not used)."""

import logging
import sys
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

from recbole.trainer import Trainer
from recbole.utils import get_environment, get_trainer, init_logger, init_seed, set_color

from recbole_perpeft import checkpoint
from recbole_perpeft.checks import without_effect
from recbole_perpeft.config import Config
from recbole_perpeft.data import create_dataset, data_preparation
from recbole_perpeft.ranking import RankingCollector
from recbole_perpeft.trainer import PerPEFTTrainer


def run(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: dict | None = None,
    saved: bool = True,
    command_line: Sequence[str] = (),
) -> dict:
    """Train ``model`` on ``dataset`` and test it once, with the state that was best in validation.

    Parameters
    ----------
    model, dataset
        Names; ``None``: from the other settings.
    config_file_list, config_dict, command_line
        Settings, see :class:`~recbole_perpeft.config.Config`.
    saved
        Whether to write checkpoints.

    Returns
    -------
    dict
        RecBole's: ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``, ``test_result``.

    Raises
    ------
    PerPEFTError
        On input that cannot be used; the message says what to change.
    """
    config = Config(model, dataset, config_file_list, config_dict, command_line)
    return _train_and_test(config, saved, verbose=True)


def objective_function(
    config_dict: dict | None = None, config_file_list: Sequence[str | Path] | None = None, saved: bool = True
) -> dict:
    """What RecBole's ``HyperTuning`` calls with each candidate; returns what it expects."""
    config = Config(config_file_list=config_file_list, config_dict=config_dict)
    return {"model": config["model"], **_train_and_test(config, saved, verbose=False)}


def load(checkpoint_file: str | Path, config_dict: dict | None = None) -> tuple:
    """Make model and data again from a checkpoint of a PerPEFT model, in a fresh process.

    Parameters
    ----------
    checkpoint_file
        What a run wrote.
    config_dict
        Settings that have changed since, such as a moved ``data_path`` or ``encoder`` folder.

    Returns
    -------
    tuple
        ``(config, trainer, train_data, valid_data, test_data)``; ``trainer.model`` holds the best state, and
        ``trainer.evaluate(test_data)`` gives its test score.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or data or encoder are not those it was made with.
    """
    state = checkpoint.read(checkpoint_file)
    config = Config(config_dict={**state["settings"], **(config_dict or {})})
    _, trainer, train_data, valid_data, test_data = prepare(config)
    trainer.resume_checkpoint(checkpoint_file)
    trainer.restore_best()
    return config, trainer, train_data, valid_data, test_data


def prepare(config: Config) -> tuple:
    """Data, model and trainer of ``config``: ``(dataset, trainer, train_data, valid_data, test_data)``."""
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    model = config.model_class(config, train_data._dataset).to(config["device"])
    if hasattr(config.model_class, "backbone_name"):
        for sentence in without_effect(config):
            getLogger().warning(sentence)
        trainer = PerPEFTTrainer(config, model)
        trainer.identity = checkpoint.identity(config, train_data._dataset, model)
    else:
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        trainer.eval_collector = RankingCollector(config)
    trainer.eval_collector.data_collect(train_data)  # for an evaluation without training too
    return dataset, trainer, train_data, valid_data, test_data


def _train_and_test(config: Config, saved: bool, verbose: bool) -> dict:
    for handler in getLogger().handlers[
        :
    ]:  # RecBole's init_logger does nothing where handlers of a run before are left
        getLogger().removeHandler(handler)
    for folder in (Path("log") / config["model"], Path(config["checkpoint_dir"])):
        folder.mkdir(parents=True, exist_ok=True)  # RecBole's own fails where a run beside makes them meanwhile
    init_logger(config)
    logger = getLogger()
    if verbose:
        logger.info(sys.argv)
        logger.info(config)
    else:
        logger.setLevel(logging.ERROR)
    dataset, trainer, train_data, valid_data, test_data = prepare(config)
    if verbose:
        logger.info(dataset)
        logger.info(trainer.model)
    if config["resume"]:
        trainer.resume_checkpoint(config["resume"])
    show = config["show_progress"] and verbose
    score, result = trainer.fit(train_data, valid_data, verbose=verbose, saved=saved, show_progress=show)
    test_result = trainer.evaluate(test_data, load_best_model=_has_best(trainer, saved), show_progress=show)
    result, test_result = _plain(result), _plain(test_result)
    if verbose:
        logger.info("The running environment of this training is as follows:\n" + get_environment(config).draw())
        logger.info(set_color("best valid ", "yellow") + f": {result}")
        logger.info(set_color("test result", "yellow") + f": {test_result}")
        _say_where(trainer, saved)
    return {
        "best_valid_score": float(score),
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": result,
        "test_result": test_result,
    }


def _plain(result: dict | None) -> dict:
    """Metrics as Python floats: numpy's would be printed as ``np.float64(0.1)``."""
    return {name: float(value) for name, value in (result or {}).items()}


def _has_best(trainer: Trainer, saved: bool) -> bool:
    """RecBole's trainers keep their best state in the file only, ours in memory too."""
    return saved or isinstance(trainer, PerPEFTTrainer)


def _say_where(trainer: Trainer, saved: bool) -> None:
    files = [handler.baseFilename for handler in getLogger().handlers if isinstance(handler, logging.FileHandler)]
    places = [f"log {file}" for file in files] + ([f"checkpoint {trainer.saved_model_file}"] if saved else [])
    getLogger().info("Written: " + ", ".join([*places, f"tensorboard {trainer.tensorboard.log_dir}"]))
