"""What can be done after a run: commands to copy."""

import shlex
from contextlib import suppress

from recbole.trainer import Trainer
from recbole.utils import ModelType

from recbole_perpeft.config import Config
from recbole_perpeft.config.registry import is_perpeft, reads_content
from recbole_perpeft.utils.errors import PerPEFTError

_TRAIN_ON = 2  # times as many epochs
_OF_ONE_RUN = frozenset({"model", "dataset", "resume", "warm_start", "seed", "checkpoint_dir", "show_progress"})
_OF_A_START = frozenset({"epochs", "global_epochs"})  # which say how long is trained from there


def next_steps(config, trainer: Trainer, saved: bool) -> list[str]:
    """Commands for what comes after a run, the likeliest first.

    Parameters
    ----------
    config
        Of the run.
    trainer
        At its end.
    saved
        Whether it wrote a checkpoint.
    """
    steps, ours = [], is_perpeft(config.model_class)
    file = shlex.quote(str(trainer.saved_model_file))
    last = config["epochs"] - 1
    if saved and ours and trainer.best_valid_result and trainer.best_epoch == last >= 0:
        more = f"--resume={file} --epochs={_TRAIN_ON * config['epochs']}"
        steps.append(f"the last epoch was the best, train on: python run_recbole_perpeft.py {more}")
    if ours:
        which = f"--model {config['model']}"
    elif reads_content(config.model_class):
        general = config["MODEL_TYPE"] == ModelType.GENERAL
        which = (
            f"--model {'PerPEFTBPR' if general else 'PerPEFTSASRec'} --variants perpeft neighbours content_neighbours"
        )
    else:
        which = f"--models {' '.join(dict.fromkeys(('SASRec', config['model'])))} --variants"
    name, words = shlex.quote(config.dataset), shlex.join(_settings_given(config))
    compare = f"python -m recbole_perpeft compare --dataset {name} {which} --out results/{name} {words}".rstrip()
    steps.append(f"beside other models, over seeds: {compare}")
    if saved and ours and trainer.model.is_grouped:
        explain = f"python -m recbole_perpeft explain {file} --out explained/{name}"
        steps.append(f"what the groups look at, as pictures: {explain}")
    if saved and ours:
        steps.append(f"in Python: config, trainer, *data = recbole_perpeft.quick_start.load({file!r})")
    return steps


def _settings_given(config) -> list[str]:
    """Words of a command line for the settings that differ from the defaults, wherever they were given."""
    left_out = _OF_ONE_RUN | (_OF_A_START if config["warm_start"] else set())
    settings = config.settings()
    differing = _differing(config, settings, {})
    for key in [key for key in differing if key not in left_out]:  # what follows from others is not given
        others = {name: value for name, value in differing.items() if name != key}
        with suppress(PerPEFTError):
            if not _differing(config, settings, others):
                differing = others
    given = {key: value for key, value in differing.items() if key not in left_out}
    return [f"--{key}={'~' if value is None else value}" for key, value in given.items()]


def _differing(config, settings: dict, given: dict) -> dict:
    """Those of ``settings`` that are others than where only ``given`` ones are."""
    others = Config(config.model_class, config.dataset, config_dict=given).settings()
    return {key: value for key, value in settings.items() if key not in others or others[key] != value}
