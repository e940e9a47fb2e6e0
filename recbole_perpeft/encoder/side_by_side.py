"""Towers that run at the same time, each in a thread of its own."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from recbole_perpeft.utils.cores import at_once

_Run = Callable[[], torch.Tensor]


def run_side_by_side(runs: Sequence[_Run], weights: Sequence[Sequence[nn.Parameter]]) -> torch.Tensor:
    """What ``runs`` give, one beside the other, computed at the same time, and so is the gradient.

    Small products gain nothing from being split between the threads of torch, which take longer to meet than to
    compute. Towers have nothing to say to each other before the end.

    Parameters
    ----------
    runs
        Each gives ``[n, d]``. They share nothing that they write to, and draw no number from torch's own generators.
    weights
        What each one's gradient is of.

    Returns
    -------
    torch.Tensor
        ``[n, sum of d]``; differentiable once.
    """
    if not torch.is_grad_enabled():
        return torch.cat(at_once(runs), dim=-1)
    return _SideBySide.apply(runs, [len(some) for some in weights], *(weight for some in weights for weight in some))


class _SideBySide(torch.autograd.Function):
    """A node with a graph of its own for each run, whose backward passes go at the same time too."""

    @staticmethod
    def forward(ctx, runs: Sequence[_Run], numbers: list[int], *weights: nn.Parameter) -> torch.Tensor:
        ctx.outputs = at_once([_with_gradient(run) for run in runs])
        ctx.numbers, ctx.weights = numbers, weights
        return torch.cat([output.detach() for output in ctx.outputs], dim=-1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple:
        outputs, ctx.outputs = ctx.outputs, None
        parts = gradient.split([output.shape[-1] for output in outputs], dim=-1)
        weights, start = [], 0
        for number in ctx.numbers:
            weights.append(ctx.weights[start : start + number])
            start += number
        backwards = [partial(_gradients, *of_run) for of_run in zip(outputs, weights, parts, strict=True)]
        return None, None, *(one for some in at_once(backwards) for one in some)


def _gradients(output: torch.Tensor, weights: Sequence[nn.Parameter], gradient: torch.Tensor) -> Sequence:
    return torch.autograd.grad(output, weights, gradient, allow_unused=True) if weights else ()


def _with_gradient(run: _Run) -> _Run:
    def with_gradient() -> torch.Tensor:
        with torch.enable_grad():
            return run()

    return with_gradient
