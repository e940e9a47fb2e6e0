"""Data, model and trainer of some settings, each of which needs the one before."""

from logging import getLogger
from pathlib import Path

from recbole.trainer import Trainer
from recbole.utils import ModelType, get_trainer, init_seed
from torch import nn

from recbole_perpeft.config import Config
from recbole_perpeft.config.evaluation_settings import check_topk_fits
from recbole_perpeft.config.identity import data_identity, encoder_identity
from recbole_perpeft.config.registry import is_perpeft, reads_content
from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.data.preparation import create_dataset, data_preparation
from recbole_perpeft.evaluation.collector import RankingCollector
from recbole_perpeft.evaluation.known_purchases import reads_purchases
from recbole_perpeft.trainer.carry_over import tokens_of
from recbole_perpeft.trainer.checkpoint_file import name_of
from recbole_perpeft.trainer.neighbours_trainer import NeighboursTrainer
from recbole_perpeft.trainer.telling_trainer import telling
from recbole_perpeft.trainer.trainer import PerPEFTTrainer
from recbole_perpeft.utils import processes
from recbole_perpeft.utils.errors import PerPEFTError, SettingError
from recbole_perpeft.utils.stopwatch import Stopwatch


def prepare(config: Config, watch: Stopwatch | None = None) -> tuple:
    """Data, model and trainer of ``config``: ``(dataset, trainer, train_data, valid_data, test_data)``.

    As RecBole's ``init_seed``, it seeds the generators of the whole process. ``watch`` times data and model.
    """
    watch = watch or Stopwatch()
    for remark in config.remarks:
        getLogger().warning(remark)
    init_seed(config["seed"], config["reproducibility"])
    with watch.part("data"):
        dataset = create_dataset(config)
        check_topk_fits(config, dataset)
        inputs = data_identity(config, dataset)
        train_data, valid_data, test_data = data_preparation(config, dataset)
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    with watch.part("encoder and content" if reads_content(config.model_class) else "model"):
        model = _make_model(config, train_data._dataset)
    if is_perpeft(config.model_class):
        trainer = _make_trainer(PerPEFTTrainer, config, model)
        trainer.checkpoint.identity = inputs | encoder_identity(model.item_tower.encoder)
        trainer.checkpoint.tokens = tokens_of(dataset)
    else:
        config.identity = {**inputs, "sources": sources_hash()}  # RecBole writes the config into its checkpoints
        if reads_content(config.model_class):
            config.identity |= encoder_identity(model.encoder)
            trainer = _make_trainer(NeighboursTrainer, config, model)
        else:
            trainer = _make_trainer(telling(get_trainer(config["MODEL_TYPE"], config["model"])), config, model)
        trainer.eval_collector = RankingCollector(config)
        trainer.saved_model_file = processes.of_first(name_of(config))
    trainer.eval_collector.data_collect(train_data)  # for an evaluation without training too
    without_sequences = config["MODEL_TYPE"] in (ModelType.GENERAL, ModelType.TRADITIONAL)
    if (
        config["grow_history"]
        and without_sequences
        and not (reads_purchases(config.model_class) or config["content_term"])
    ):
        getLogger().info(
            f"grow_history: {config['model']} reads no purchases when it scores: in the test it knows of a user what "
            "it learnt in training, and not the validation purchases."
        )
    return dataset, trainer, train_data, valid_data, test_data


def _make_model(config: Config, dataset) -> nn.Module:
    try:
        return config.model_class(config, dataset).to(config["device"])
    except PerPEFTError:
        raise
    except (ValueError, ArithmeticError, AssertionError, NotImplementedError) as error:  # of RecBole's constructors
        reason = error if str(error) else "RecBole refuses them without a reason"
        raise SettingError(f"model: {config['model']} cannot be built with these settings: {reason}") from error


def _make_trainer(kind: type[Trainer], config: Config, model: nn.Module) -> Trainer:
    """RecBole's trainers make their folders at once, of a checkpoint that is only opened too."""
    try:
        return kind(config, model)
    except OSError as error:
        raise SettingError(
            f"checkpoint_dir: {config['checkpoint_dir']}, or log_tensorboard in {Path.cwd()}, cannot be made: {error}. "
            "Start where both can be; only a bundle (export) is opened without them."
        ) from error
