"""The projector: from what the encoder sees of an item to the width of the backbone's item embedding."""

from torch import nn


def projector(content_size: int, inner_size: int, width: int, biases: int = 0) -> nn.Sequential:
    """The paper's R_g: Linear, LayerNorm, ReLU, Linear, LayerNorm; ``[n, content_size] -> [n, width]``.

    The last ``biases`` columns are zeros.
    """
    layers = [
        nn.Linear(content_size, inner_size),
        nn.LayerNorm(inner_size),
        nn.ReLU(),
        nn.Linear(inner_size, width - biases),
        nn.LayerNorm(width - biases),
    ]
    return nn.Sequential(*layers, *[nn.ConstantPad1d((0, biases), 0.0)] * bool(biases))
