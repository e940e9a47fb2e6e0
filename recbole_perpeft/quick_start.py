"""Run a model from settings to its test score, as ``recbole.quick_start`` does (which needs ray and is not used)."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from logging import getLogger
from pathlib import Path

from recbole.trainer import Trainer
from recbole.utils import set_color

from recbole_perpeft.config import Config
from recbole_perpeft.config.identity import counting
from recbole_perpeft.config.registry import is_perpeft, missing_package
from recbole_perpeft.evaluation.ranked_rows import check_scores
from recbole_perpeft.report.environment import environment_table
from recbole_perpeft.report.next_steps import next_steps
from recbole_perpeft.report.progress import Progress
from recbole_perpeft.report.run_report import run_report, verdicts
from recbole_perpeft.report.run_summary import comparison_summary, training_summary
from recbole_perpeft.trainer.checkpoint_settings import config_of
from recbole_perpeft.trainer.factory import prepare
from recbole_perpeft.trainer.resuming import make_config, naming_checkpoint, read_state, resume, written_checkpoint
from recbole_perpeft.trainer.warm_start import start_from, starting_config, take_start
from recbole_perpeft.utils import joining, processes
from recbole_perpeft.utils.files import naming_full_disks
from recbole_perpeft.utils.launch import place, places, start
from recbole_perpeft.utils.random_state import random_state_kept
from recbole_perpeft.utils.run_log import run_log
from recbole_perpeft.utils.stopwatch import Stopwatch


def run(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: dict | None = None,
    saved: bool = True,
    command_line: Sequence[str] = (),
    nproc: int = 1,
    world_size: int = -1,
    ip: str | None = None,
    port: int | None = None,
    group_offset: int = 0,
) -> dict:
    """Train ``model`` on ``dataset`` and test it once, with the state that was best in validation.

    Parameters
    ----------
    model, dataset
        Names; ``None``: from the other settings.
    config_file_list, config_dict, command_line
        Settings, see :class:`~recbole_perpeft.config.Config`. With ``resume``, those of the checkpoint are taken, and
        only what differs needs to be given.
    saved
        Whether to write checkpoints.
    nproc, world_size, ip, port, group_offset
        RecBole's words for training in several processes: see :func:`~recbole_perpeft.utils.launch.places`. Under
        ``torchrun`` none of them is needed.

    Returns
    -------
    dict
        RecBole's: ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``, ``test_result``; and
        ``checkpoint``, the file that was written (None without). Beside them those of
        :func:`~recbole_perpeft.report.run_summary.training_summary` and
        :func:`~recbole_perpeft.report.run_summary.comparison_summary`, and ``seconds``: ``all`` of this process and
        what they went to.

    Raises
    ------
    PerPEFTError
        On input that cannot be used; the message says what to change.
    ProcessError
        If one of several processes has ended.

    Notes
    -----
    The process is left as it was: the root logger's handlers and level, the states of the random generators, cuDNN's
    flags. What stays is RecBole's: ``CUDA_VISIBLE_DEVICES`` is ``gpu_id``, and its warnings are hidden.
    """
    settings = {"config_file_list": config_file_list, "config_dict": config_dict, "command_line": tuple(command_line)}
    if several := places(nproc, world_size, ip, port, group_offset):
        arguments = {"model": model, "dataset": dataset, "saved": saved, **settings}
        return start(several, "recbole_perpeft.quick_start:run", arguments)
    watch = Stopwatch()
    with joining.joined(place()):
        config = make_config(model, dataset, **settings)
        joining.connect(config["device"])
        with (
            naming_full_disks(config),
            random_state_kept(),
            run_log(config) as log_file,
            _naming_packages(config),
        ):
            return _train_and_test(config, saved, log_file, watch)


def objective_function(
    config_dict: dict | None = None, config_file_list: Sequence[str | Path] | None = None, saved: bool = True
) -> dict:
    """What RecBole's ``HyperTuning`` calls with each candidate; returns what it expects."""
    config = make_config(config_file_list=config_file_list, config_dict=config_dict)
    with naming_full_disks(config), random_state_kept(), run_log(config, verbose=False), _naming_packages(config):
        return {"model": config["model"], **_train_and_test(config, saved)}


def load(checkpoint_file: str | Path, config_dict: dict | None = None, new_data: bool = False) -> tuple:
    """Make model and data again from a checkpoint, in a fresh process.

    Parameters
    ----------
    checkpoint_file
        What a run wrote. That of one of RecBole's own models is a pickle, which can run any code when it is read: give
        only files that you trust.
    config_dict
        Settings that have changed since, such as a moved ``data_path`` or ``encoder`` folder; or another way to measure
        the model (``topk``, ``metrics``, ``mask_history``).
    new_data
        Whether data and content may be others than then: the model is put on the users and items of now, whatever it
        knows of them (:func:`~recbole_perpeft.trainer.carry_over.carry_over`). The log says how many are new and gone.
        For PerPEFT models.

    Returns
    -------
    tuple
        ``(config, trainer, train_data, valid_data, test_data)``; ``trainer.model`` holds the best state, and
        ``trainer.evaluate(test_data)`` gives its test score.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or data, content, encoder or settings are not those it was made with. With
        ``new_data``, of data and content: if the checkpoint does not tell its users and items, or no item is in both.
    """
    if new_data:
        config = starting_config(checkpoint_file, config_dict or {})
    else:
        config = config_of(read_state(checkpoint_file)["settings"], checkpoint_file, config_dict)
    _, trainer, train_data, valid_data, test_data = prepare(config)
    if new_data:
        start_from(trainer, checkpoint_file, train_data, valid_data)
        return config, trainer, train_data, valid_data, test_data
    resume(trainer, checkpoint_file, to_train=False)
    if is_perpeft(trainer.config.model_class):
        trainer.restore_best()
    return config, trainer, train_data, valid_data, test_data


@contextmanager
def _naming_packages(config: Config) -> Iterator[None]:
    """Name a package that one of RecBole's models imports as late as in its constructor or its first batch."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_package(config["model"], error) from error


def _train_and_test(config: Config, saved: bool, log_file: str | None = None, watch: Stopwatch | None = None) -> dict:
    """A run; without ``watch`` it says nothing, and measures nothing beside what RecBole returns."""
    logger, watch, verbose = getLogger(), watch or Stopwatch(), watch is not None and processes.is_first()
    if verbose:
        logger.info(sys.argv)
        logger.info(config)
    dataset, trainer, *loaders = prepare(config, watch)
    if processes.count() > 1 and is_perpeft(config.model_class):
        trainer.model.make_states()
    processes.meet()
    processes.refuse_differences(_what_counts(config, trainer))
    if verbose:
        logger.info(dataset)
        logger.info(trainer.model)
    with closing(trainer.tensorboard):  # it has a thread and a file
        return _fit_and_test(trainer, loaders, saved, log_file, watch, verbose)


def _fit_and_test(
    trainer: Trainer, loaders: Sequence, saved: bool, log_file: str | None, watch: Stopwatch, verbose: bool
) -> dict:
    config, logger, (train_data, valid_data, test_data) = trainer.config, getLogger(), loaders
    if config["resume"]:
        resume(trainer, config["resume"])
    elif config["warm_start"]:
        start_from(trainer, config["warm_start"], train_data, valid_data)
        take_start(trainer, valid_data, saved)
    with processes.alone():
        check_scores(trainer, valid_data)
    show = config["show_progress"] and verbose
    trainer.watch, progress = watch, Progress(trainer, watch)
    with naming_checkpoint(trainer):
        score, result = trainer.fit(train_data, valid_data, verbose=verbose, saved=saved, show_progress=show)
    trainer.saved_model_file = processes.of_first(trainer.saved_model_file)  # which it has written by now
    if not _has_best(trainer, saved):
        logger.warning("Without checkpoints (saved) RecBole's trainers keep no best state: the last epoch's is tested.")
    with watch.part("test"):
        test_result = trainer.evaluate(test_data, load_best_model=_has_best(trainer, saved), show_progress=show)
    found = {
        "best_valid_score": float(score),
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": _plain(result),
        "test_result": _plain(test_result),
        "checkpoint": written_checkpoint(trainer),
    }
    if verbose:
        logger.info("The running environment of this training is as follows:\n" + environment_table(config))
        logger.info(set_color("best valid ", "yellow") + f": {found['best_valid_result']}")
        logger.info(set_color("test result", "yellow") + f": {found['test_result']}")
        found |= training_summary(trainer, progress)
        with watch.part("comparison"), processes.alone():
            found |= comparison_summary(trainer, *loaders)
        found["seconds"] = watch.seconds()
        logger.info(run_report(found, config, next_steps(config, trainer, saved)))
        for sentence in verdicts(found, config):
            logger.warning(sentence)
        _say_where(trainer, saved, log_file)
    return found


def _what_counts(config: Config, trainer: Trainer) -> dict[str, object]:
    """What several processes must have alike, by name."""
    identity = trainer.checkpoint.identity if is_perpeft(config.model_class) else config.identity
    counts = {**counting(config.settings()), **identity}
    return {key: str(value) for key, value in counts.items() if key != "encoder"}  # wherever it lies


def _plain(result: dict | None) -> dict:
    """Metrics as Python floats: numpy's would be printed as ``np.float64(0.1)``."""
    return {name: float(value) for name, value in (result or {}).items()}


def _has_best(trainer: Trainer, saved: bool) -> bool:
    """RecBole's trainers keep their best state in the file only, ours in memory too."""
    return saved or is_perpeft(trainer.config.model_class)


def _say_where(trainer: Trainer, saved: bool, log_file: str) -> None:
    places = [f"log {log_file}"] + ([f"checkpoint {trainer.saved_model_file}"] if saved else [])
    getLogger().info("Written: " + ", ".join([*places, f"tensorboard {trainer.tensorboard.log_dir}"]))
