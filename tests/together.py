"""What several processes do in tests; one process does the same alone."""

import numpy as np
import pytest
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.grouping.assignment import losses_of_users
from recbole_perpeft.utils import joining, processes
from recbole_perpeft.utils.launch import place, places, start
from tests.tiny_runs import tiny_config
from tests.training import NO_DROPOUT, allow_passes, fit, move_modules, scatter_groups

# rounding that Adam would make a step of stays rounding with SGD
PLAIN = {"peft_config": {"r": 2, "lora_dropout": 0.0}, "learner": "sgd", "learning_rate": 0.1, **NO_DROPOUT}


def in_processes(number, work, **arguments):
    """What the first of ``number`` processes gives, each of which calls ``work`` of this module."""
    started = places(number, -1, None, None, 0)
    return start(started, f"{__name__}:_call", {"work": work, "arguments": arguments})


def _call(work, arguments):
    """In a process of several, ``work(**arguments)``, which must give the same in each."""
    torch.set_num_threads(1)
    with joining.joined(place()):
        joining.connect(torch.device("cpu"))
        found = globals()[work](**arguments)
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
    """Of each of ``runs``, arguments of :func:`train`, what it ends with."""
    return [train(root, **run) for run in runs]


def train(root, model="PerPEFTSASRec", resumed=None, stop_after=None, passes=3, **settings):
    """Train a tiny model to its end, or until just after an epoch was validated and written.

    ``passes``: as of ``allow_passes``.
    """
    with pytest.MonkeyPatch.context() as patch:
        allow_passes(patch, passes)
        trainer, result = fit(
            lambda **own: quick_start.prepare(tiny_config(root, model, **own)), stop_after, resumed, **settings
        )
    if result is None:
        return {"file": trainer.saved_model_file}
    return {
        "losses": trainer.train_loss_dict,
        "valid": dict(trainer.best_valid_result),
        "test": dict(result),
        "state": {key: value.numpy().copy() for key, value in trainer.model.state_dict().items()},
        "file": trainer.saved_model_file,
    }


def gradients_of_a_step(root, passes=3, **settings):
    """Gradients after a step on a batch, and its group; each group has a module of its own.

    Where ``passes`` over the catalogue are few, some of its items are encoded, by modules that others have been before.
    """
    _, trainer, train_data, *_ = quick_start.prepare(tiny_config(root, **{**PLAIN, **settings}))
    trainer.model.fix_likeness(train_data.purchases)
    scatter_groups(trainer.model, train_data)
    with pytest.MonkeyPatch.context() as patch:
        allow_passes(patch, passes)
        patch.setattr(processes, "_WORTH_A_CALL", 1000)  # bytes of some of the gradients
        trainer.steps.begin_epoch(train_data)
        if passes < 3:
            move_modules(trainer.model, seed=7)
        trainer.model.train()
        batch = next(iter(train_data))
        trainer.steps.train_window([batch])
    named = trainer.model.named_parameters()
    return batch.group, {name: value.grad.numpy().copy() for name, value in named if value.grad is not None}


def losses(root, **settings):
    """Losses of users under the modules of untrained groups, and which modules each process asked."""
    _, trainer, train_data, *_ = quick_start.prepare(tiny_config(root, **{**PLAIN, **settings}))
    scatter_groups(trainer.model, train_data)
    asked, losses_by_group = [], trainer.model.losses_by_group
    trainer.model.losses_by_group = lambda prefixes, groups: (
        asked.extend(groups) or losses_by_group(prefixes, groups=groups)
    )
    found = [values.tolist() for values in losses_of_users(trainer.model, train_data)]
    return {"found": found, "asked": processes.of_all(asked)}


def draws(root):
    """Whether what the processes draw apart differs, and what they draw together does not, and both come again."""
    _, trainer, train_data, *_ = quick_start.prepare(tiny_config(root))
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        next(trainer.steps.train(train_data))
        with trainer.steps._apart():
            apart = torch.rand(1).item()
        found.append((apart, torch.rand(1).item()))
    mine, again = processes.of_all(found[0]), processes.of_all(found[1])
    return {"apart": len({one for one, _ in mine}), "together": len({one for _, one in mine}), "again": mine == again}


def matrix(root, runs, **steps):
    """All of the above in one start of the processes."""
    gradients = {passes: gradients_of_a_step(root, passes) for passes in (3, 1.5)}
    found = {"runs": trained(root, runs), "gradients": gradients, "losses": losses(root)}
    return found | {"draws": draws(root)} if processes.count() > 1 else found
