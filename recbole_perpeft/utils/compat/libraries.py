"""What RecBole 1.2 needs to run on today's numpy, pandas and torch.

RecBole 1.2.1 was written for numpy 1, scipy 1.7, pandas 1 and torch 1. The repairs do nothing where an older library
still has the name.
"""

import functools
import importlib.util
import sys
import types
import warnings

import numpy as np
import torch

_REMOVED_NUMPY_NAMES = {
    "bool": np.bool_,
    "int": np.int_,
    "float": np.float64,
    "complex": np.complex128,
    "object": np.object_,
    "str": np.str_,
    "long": np.int_,
    "unicode": np.str_,
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
}


def apply() -> None:
    """Repair what RecBole 1.2 uses of numpy and torch, and a missing package."""
    _do_without_kmeans_pytorch()
    _restore_numpy_names()
    _trust_own_checkpoints()
    _quiet_warnings()
    _end_anomaly_mode()


def _do_without_kmeans_pytorch() -> None:
    """Let RecBole 1.2.0 import its models: it imports LDiffRec among them, whose package it does not require."""
    if importlib.util.find_spec("kmeans_pytorch") is not None:
        return

    def kmeans(*args, **kwargs):
        raise ImportError("RecBole's LDiffRec needs a further package: pip install kmeans_pytorch")

    module = types.ModuleType("kmeans_pytorch")
    module.kmeans = kmeans
    module.__spec__ = importlib.util.spec_from_loader("kmeans_pytorch", loader=None)  # or find_spec would fail on it
    sys.modules["kmeans_pytorch"] = module


def _restore_numpy_names() -> None:
    """Give back the aliases that numpy 1.24 and 2.0 removed; RecBole reads ``np.float`` in losses and metrics."""
    from recbole.config import Config

    for name, value in _REMOVED_NUMPY_NAMES.items():
        if name not in vars(np):
            setattr(np, name, value)
    # RecBole's own version of the same repair fails on numpy 2, where np.float_ is gone too
    Config.compatibility_settings = lambda self: None


def _trust_own_checkpoints() -> None:
    """Let RecBole's trainer read the checkpoints that it wrote itself.

    They hold a pickled Config, which ``torch.load`` refuses since torch 2.6 unless told to trust the file. Only the
    name inside RecBole's trainer module is changed: everybody else's ``torch.load`` stays strict.
    """
    import recbole.trainer.trainer as trainer_module

    if trainer_module.torch is not torch:
        return
    trainer_module.torch = _TorchWithTrustedLoad()


class _TorchWithTrustedLoad:
    """The torch module, except that ``load`` trusts its file."""

    load = staticmethod(functools.partial(torch.load, weights_only=False))

    def __getattr__(self, name):
        return getattr(torch, name)


def _quiet_warnings() -> None:
    """Hide warnings about calls inside RecBole and peft that work but print dozens of lines at every start."""
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
    for message in (r".*torch\.cuda\.amp.*", r".*is_gradient_checkpointing.*"):
        warnings.filterwarnings("ignore", message=message, category=FutureWarning)


def _end_anomaly_mode() -> None:
    """Switch off the autograd debugging that RecBole's SINE switches on for the whole process when it is imported.

    Importing any sequential model imports SINE too. Anomaly mode records a stack trace for every operation and looks
    for NaN in every gradient, which makes each training step of every model slower. An application that has switched it
    on itself keeps it.
    """
    wanted = torch.is_anomaly_enabled() and "recbole.model.sequential_recommender.sine" not in sys.modules
    import recbole.model.sequential_recommender  # noqa: F401  imported here so that no later import switches it on

    torch.autograd.set_detect_anomaly(wanted)
