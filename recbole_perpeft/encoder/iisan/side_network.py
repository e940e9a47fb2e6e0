"""The side networks of IISAN (Fu et al., SIGIR 2024): bottleneck blocks beside a tower that read its hidden states."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

_AUTHORS_SPREAD = 1e-4  # of the normal distribution that their blocks start from


class SideBlock(nn.Module):
    """``x + up(gelu(down(x)))``.

    Parameters
    ----------
    size
        Width of what it reads and gives.
    bottleneck
        Inner width.
    spread
        Standard deviation of all its initial numbers. By default ``up`` starts at zero, so that a new network gives a
        mean of its states and no noise.
    """

    def __init__(self, size: int, bottleneck: int, spread: float | None = None):
        super().__init__()
        self.down, self.up = nn.Linear(size, bottleneck), nn.Linear(bottleneck, size)
        for parameter in self.up.parameters() if spread is None else self.parameters():
            nn.init.normal_(parameter, std=spread) if spread else nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, size] -> [n, size]``."""
        return x + self.up(F.gelu(self.down(x)))


class SideChain(nn.Module):
    """``h_k = block_k(g_k h_(k-1) + (1 - g_k) s_k)`` over a tower's states, with learnt gates ``g`` that start at 0.5.

    Without gates, ``h_k = block_k(h_(k-1) + s_k)``. In both, ``h_0 = block_0(s_0)``.

    Parameters
    ----------
    size
        Width of the states.
    number
        Their number.
    bottleneck
        Inner width of the blocks.
    gated
        Whether there are gates.
    spread
        Of the blocks, see :class:`SideBlock`.
    """

    def __init__(self, size: int, number: int, bottleneck: int, gated: bool = True, spread: float | None = None):
        super().__init__()
        self.blocks = nn.ModuleList(SideBlock(size, bottleneck, spread) for _ in range(number))
        self.gates = nn.Parameter(torch.zeros(number - 1)) if gated else None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """``[n, number, size] -> [n, size]``."""
        running = self.blocks[0](states[:, 0])
        if self.gates is None:
            for k, block in enumerate(self.blocks[1:], start=1):
                running = block(running + states[:, k])
            return running
        gates = self.gates.sigmoid()
        for k, block in enumerate(self.blocks[1:], start=1):
            running = block(gates[k - 1] * running + (1 - gates[k - 1]) * states[:, k])
        return running


class SideNetworks(nn.Module):
    """One group's networks: one inside each tower, and one between the towers where there are two.

    The one between them lives at the smaller width; a wider tower's states enter it through a linear map. Where a
    tower's states have different widths (stages of a convolution, of Swin), all enter at the width of the last one.

    ``form: normalised`` takes the layer norm of the states, since layers differ in scale by orders of magnitude and the
    gates are to mix what is comparable, and gives parts of length 1; its gates mix in all three networks, and all
    states enter the one between the towers through the same map, without bias. ``form: authors`` is how PerPEFT's
    authors implement IISAN: no norms, a sum without gates between the towers, a map with bias for each state, and
    blocks that start from small random numbers.

    Parameters
    ----------
    widths
        Widths of the states of each modality in use, as many for each.
    bottleneck
        Inner width of the blocks.
    form
        "normalised" or "authors".

    Attributes
    ----------
    feature_dim : int
        Width of what comes out.
    """

    def __init__(self, widths: dict[str, Sequence[int]], bottleneck: int, form: str):
        super().__init__()
        self._normalised = form == "normalised"
        spread = None if self._normalised else _AUTHORS_SPREAD
        self._widths = {m: list(each) for m, each in widths.items()}
        sizes = {m: each[-1] for m, each in widths.items()}
        (number,) = {len(each) for each in widths.values()}
        self.inside = nn.ModuleDict({m: SideChain(size, number, bottleneck, True, spread) for m, size in sizes.items()})
        self.feature_dim = sum(sizes.values())
        self.between = None
        if len(sizes) > 1:
            size = min(sizes.values())
            self.between = SideChain(size, number, bottleneck, self._normalised, spread)
            self.mix = nn.Parameter(torch.zeros(number))
            self.enter = nn.ModuleDict({m: self._entrance(width, size, number) for m, width in sizes.items()})
            self.feature_dim += size
        staged = {m: each for m, each in self._widths.items() if len(set(each)) > 1}
        self.align = nn.ModuleDict({m: _alignment(each) for m, each in staged.items()})

    def forward(self, states: dict[str, torch.Tensor]) -> torch.Tensor:
        """States ``[n, number, widest]`` of each modality to features ``[n, feature_dim]``.

        A state that is less wide than others of its tower fills the first of the columns.
        """
        states = {m: self._aligned(m, values.float()) for m, values in states.items()}  # [n, number, size]
        parts = [chain(states[modality]) for modality, chain in self.inside.items()]
        if self.between is not None:
            image, text = (_entered(self.enter[modality], values) for modality, values in states.items())
            mix = self.mix.sigmoid()[:, None]
            parts.append(self.between(mix * image + (1 - mix) * text))
        return torch.cat([F.normalize(part, dim=-1) if self._normalised else part for part in parts], dim=-1)

    def _entrance(self, width: int, size: int, number: int) -> nn.Module:
        if width <= size:
            return nn.Identity()
        if self._normalised:
            return nn.Linear(width, size, bias=False)
        return nn.ModuleList(nn.Linear(width, size) for _ in range(number))

    def _aligned(self, modality: str, values: torch.Tensor) -> torch.Tensor:
        if modality not in self.align:
            return self._normed(values)
        each = (values[:, k, :width] for k, width in enumerate(self._widths[modality]))
        pairs = zip(self.align[modality], each, strict=True)
        return torch.stack([into(self._normed(state)) for into, state in pairs], dim=1)

    def _normed(self, values: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(values, values.shape[-1:]) if self._normalised else values


def _alignment(widths: Sequence[int]) -> nn.ModuleList:
    last = widths[-1]
    return nn.ModuleList(nn.Identity() if width == last else nn.Linear(width, last) for width in widths)


def _entered(entrance: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """States ``[n, number, width]`` as they enter the network between the towers, ``[n, number, size]``."""
    if isinstance(entrance, nn.ModuleList):
        return torch.stack([into(values[:, k]) for k, into in enumerate(entrance)], dim=1)
    return entrance(values)
