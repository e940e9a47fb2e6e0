"""The side networks of IISAN (Fu et al., SIGIR 2024): bottleneck blocks beside a tower that read its hidden states."""

import torch
from torch import nn
from torch.nn import functional as F


class SideBlock(nn.Module):
    """``x + up(gelu(down(x)))``. ``up`` starts at zero, so a new network gives a mean of its states and no noise."""

    def __init__(self, size: int, bottleneck: int):
        super().__init__()
        self.down, self.up = nn.Linear(size, bottleneck), nn.Linear(bottleneck, size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, size] -> [n, size]``."""
        return x + self.up(F.gelu(self.down(x)))


class SideChain(nn.Module):
    """``h_k = block_k(g_k h_(k-1) + (1 - g_k) s_k)`` over a tower's states, with learnt gates ``g`` that start at 0.5.

    Parameters
    ----------
    size
        Width of the states.
    number
        Their number.
    bottleneck
        Inner width of the blocks.
    """

    def __init__(self, size: int, number: int, bottleneck: int):
        super().__init__()
        self.blocks = nn.ModuleList(SideBlock(size, bottleneck) for _ in range(number))
        self.gates = nn.Parameter(torch.zeros(number - 1))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """``[n, number, size] -> [n, size]``."""
        gates = self.gates.sigmoid()
        running = self.blocks[0](states[:, 0])
        for k, block in enumerate(self.blocks[1:], start=1):
            running = block(gates[k - 1] * running + (1 - gates[k - 1]) * states[:, k])
        return running


class SideNetworks(nn.Module):
    """One group's networks: one inside each tower, and one between the towers where there are two.

    The one between them lives at the smaller width; a wider tower's states enter it through a linear map.

    Parameters
    ----------
    sizes
        Width of the states of each modality in use.
    number
        States per tower.
    bottleneck
        Inner width of the blocks.

    Attributes
    ----------
    feature_dim : int
        Width of what comes out.
    """

    def __init__(self, sizes: dict[str, int], number: int, bottleneck: int):
        super().__init__()
        self.inside = nn.ModuleDict({m: SideChain(size, number, bottleneck) for m, size in sizes.items()})
        self.feature_dim = sum(sizes.values())
        self.between = None
        if len(sizes) > 1:
            size = min(sizes.values())
            self.between = SideChain(size, number, bottleneck)
            self.mix = nn.Parameter(torch.zeros(number))
            self.enter = nn.ModuleDict(
                {m: nn.Linear(width, size, bias=False) if width > size else nn.Identity() for m, width in sizes.items()}
            )
            self.feature_dim += size

    def forward(self, states: dict[str, torch.Tensor]) -> torch.Tensor:
        """States ``[n, number, size]`` of each modality to features ``[n, feature_dim]``, whose parts have length 1."""
        # layers differ in scale by orders of magnitude, and the gates are to mix what is comparable
        states = {m: F.layer_norm(values.float(), values.shape[-1:]) for m, values in states.items()}
        parts = [chain(states[modality]) for modality, chain in self.inside.items()]
        if self.between is not None:
            image, text = (self.enter[modality](values) for modality, values in states.items())
            mix = self.mix.sigmoid()[:, None]
            parts.append(self.between(mix * image + (1 - mix) * text))
        return torch.cat([F.normalize(part, dim=-1) for part in parts], dim=-1)
