"""The foundation model compiled by torch.compile, one compiled function for the modules of all groups."""

from collections.abc import Callable
from functools import cached_property
from logging import getLogger

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.utils.errors import first_line

PAYS_AFTER = 2**21  # pictures and texts of all training steps: a short run would spend longer compiling than it saves


class CompiledEncode(nn.Module):
    """:meth:`FoundationModel.encode`, compiled for any number of items and any length of texts, with its gradient.

    torch.compile compiles anew where another adapter is the active one, for peft tells them apart by their names. Who
    calls this has the same one active always, and puts a group's tensors into its places.

    Where compiling fails, the log says so once, and from then on the model runs as it is. Whether the gradient can be
    compiled is seen at the first batch, before a step depends on it. No CUDA graphs are used: their outputs would be
    overwritten while features of other portions are still read.

    Parameters
    ----------
    foundation
        A model with adapters.
    after
        Items that run as they are before anything is compiled.
    """

    def __init__(self, foundation: FoundationModel, after: int = 0):
        super().__init__()
        self.foundation = foundation
        self._left = after
        self._tried: set[str] = set()
        self._fails = False

    @cached_property
    def _compiled(self) -> Callable[..., torch.Tensor]:
        """Made when it is first called: torch's compiler takes long to import."""
        return torch.compile(self.foundation.encode, fullgraph=True, dynamic=False)

    def serves(self, batch: dict[str, torch.Tensor], states: torch.Tensor | None) -> bool:
        """Whether items of a training step are to run compiled; they count among those that have run."""
        number = len(next(iter(batch.values())) if states is None else states)
        self._left = max(self._left - number, 0)
        return not self._left and not self._fails and number > 1  # one would be compiled by itself

    def forward(self, modality: str, batch: dict[str, torch.Tensor], states: torch.Tensor | None) -> torch.Tensor:
        """Features of items ``[n, d]``; parameters as of :meth:`FoundationModel.encode`."""
        inputs = dict(batch)
        if states is not None:  # copied, for of a view torch.compile would hold on to the size of its base
            inputs["states"] = states = states.to(torch.float32, copy=True)
        for tensor in inputs.values():
            for dimension in (0, 1) if modality == "text" else (0,):
                torch._dynamo.maybe_mark_dynamic(tensor, dimension)
        try:
            if modality not in self._tried:
                getLogger().info(f"compile_encoder: torch.compile compiles steps of {modality}s; it takes a while")
                self._try(modality, batch, states)
                self._tried.add(modality)
            return self._compiled(modality, batch, states)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # each part of the compiler fails in its own way
            self._fails = True
            getLogger().warning(
                f"compile_encoder: torch.compile fails ({type(error).__name__}: {first_line(error)}). The foundation "
                "model runs as it is. Install what is missing (on a CPU a C++ compiler), or set compile_encoder: False."
            )
        return self.foundation.encode(modality, batch, states)

    def _try(self, modality: str, batch: dict[str, torch.Tensor], states: torch.Tensor | None) -> None:
        """Compile, the gradient too, and draw no random number by it: a run that goes on does so at another step."""
        device = self.foundation.device
        devices = [device] if device.type == "cuda" else []
        # of its own graph: of one that is under way, checkpoint() would compute everything again
        with torch.random.fork_rng(devices), saved_tensors_hooks(_unchanged, _unchanged):
            features = self._compiled(modality, batch, states)
            if features.requires_grad:
                trained = [p for p in self.foundation.parameters() if p.requires_grad]
                torch.autograd.grad(features.sum(), trained, allow_unused=True)


def _unchanged(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
