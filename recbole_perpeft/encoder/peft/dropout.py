"""Dropout of PEFT modules on a CPU, where drawing torch's masks takes as long as a product of the encoder's layers."""

import torch
from torch import nn

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel

_STEPS = 2**16


class WordDropout(nn.Dropout):
    """torch's Dropout, whose masks on a CPU are drawn 64 bits at a time, for four elements.

    Each element is dropped by itself with probability ``p``, to the next 65,536th. Where torch.compile compiles it, it
    is torch's own, of which the masks are drawn beside the arithmetic.

    Parameters
    ----------
    p
        Probability of being dropped.
    generator
        What the masks are drawn from; None is torch's default.
    """

    def __init__(self, p: float, generator: torch.Generator | None = None):
        super().__init__(p)
        self.generator = generator
        self._dropped = round(p * _STEPS)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``input [...]`` with some elements zero and the others larger; as it is, in evaluation."""
        drawn_here = input.device.type == "cpu" and 0 < self._dropped < _STEPS and not torch.compiler.is_compiling()
        if not self.training or not drawn_here:
            return super().forward(input)
        words = torch.empty(-(-input.numel() // 4), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self.generator)  # all 64 bits
        numbers = words.view(torch.int16)[: input.numel()].view(input.shape)
        kept = (numbers >= self._dropped - _STEPS // 2).to(input.dtype)
        return input * kept.mul_(_STEPS / (_STEPS - self._dropped))


class Masks:
    """Where the dropout of the adapters of each tower draws its masks from: a generator for each.

    Parameters
    ----------
    foundation
        A model with adapters. Their dropout is replaced in place.
    """

    def __init__(self, foundation: FoundationModel):
        self._generators = {modality: torch.Generator() for modality in foundation.modalities}
        for modality, generator in self._generators.items():
            for module in foundation.tower_modules(modality).values():
                if isinstance(module, nn.ModuleDict):
                    for group, own in module.items():
                        if type(own) is nn.Dropout and own.p:
                            module[group] = WordDropout(own.p, generator)

    def follow_torch(self) -> None:
        """Go on from where torch's default generator is, so that who sets that one back gets the same masks again."""
        seeds = torch.randint(2**62, (len(self._generators),)).tolist()
        for generator, seed in zip(self._generators.values(), seeds, strict=True):
            generator.manual_seed(seed)
