"""What several processes do in tests; one process does the same alone."""

import numpy as np
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.utils import processes
from recbole_perpeft.utils.launch import place, places, start
from tests.conftest import tiny_config
from tests.training import NO_DROPOUT

LORA = {"r": 2, "lora_dropout": 0.0}
# rounding that Adam would make a step of stays rounding with SGD
PLAIN = {"peft_config": LORA, "learner": "sgd", "learning_rate": 0.1, **NO_DROPOUT}


def in_processes(number, function, **arguments):
    """What the first of ``number`` processes gives, each of which calls ``function`` of this module."""
    torch_free = f"{__name__}:call"
    return start(places(number, -1, None, None, 0), torch_free, {"function": function, "arguments": arguments})


def call(function, arguments):
    """In a process of several, ``function(**arguments)``; it must be the same in each."""
    torch.set_num_threads(1)
    with processes.joined(place(), torch.device("cpu")):
        found = globals()[function](**arguments)
        first, *others = processes.of_all(_sums(found))
        assert all(other == first for other in others), "processes differ"
        return found


def _sums(found):
    if isinstance(found, np.ndarray):
        return float(found.sum(dtype=np.float64))
    if isinstance(found, dict):
        return {key: _sums(value) for key, value in found.items()}
    return [_sums(value) for value in found] if isinstance(found, list | tuple) else found


def trained(root, runs):
    """Of each of ``runs``, ``(model, settings)``, what it ends with."""
    return [_trained(root, model, settings) for model, settings in runs]


def _trained(root, model, settings, resumed=None, stop_after=None):
    _, trainer, train_data, valid_data, test_data = quick_start.prepare(tiny_config(root, model, **settings))
    if resumed:
        trainer.resume_checkpoint(resumed)
    trainer.fit(train_data, valid_data, verbose=False)
    last = {key: value.numpy().copy() for key, value in trainer.model.state_dict().items()}
    return {
        "losses": list(trainer.train_loss_dict.values()),
        "valid": dict(trainer.best_valid_result),
        "test": dict(trainer.evaluate(test_data)),
        "state": last,
        "file": trainer.saved_model_file,
    }
