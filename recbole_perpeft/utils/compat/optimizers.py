"""torch's optimisers, without its compiler."""

import functools
import sys
from collections.abc import Callable

import torch
from torch import optim

_RECBOLES = (optim.Adam, optim.AdamW, optim.SGD, optim.Adagrad, optim.RMSprop, optim.SparseAdam)  # and ours


def apply() -> None:
    """Let an optimiser begin without importing ``torch._dynamo``. Can be called twice.

    Methods of torch's optimisers import it, a thousand modules with sympy among them, to tell the compiler to leave
    them alone. RecBole compiles nothing, and neither does this package. A process that has imported the compiler before
    keeps torch's own methods. The numbers are the same.
    """
    if "torch._dynamo" in sys.modules:
        return
    for name in ("state_dict", "load_state_dict", "zero_grad", "add_param_group"):
        method = getattr(optim.Optimizer, name)
        setattr(optim.Optimizer, name, getattr(method, "__wrapped__", method))
    for optimizer in _RECBOLES:
        step = vars(optimizer).get("step")  # AdamW has Adam's
        if step is not None and step.__code__.co_name == "_use_grad":
            optimizer.step = _with_or_without_gradients(step.__wrapped__)


def _with_or_without_gradients(step: Callable) -> Callable:
    """``step`` with what torch's own decorator does beside: gradients are recorded for differentiable steps only."""

    @functools.wraps(step)
    def stepping(self, *args, **kwargs):
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *args, **kwargs)

    return stepping
