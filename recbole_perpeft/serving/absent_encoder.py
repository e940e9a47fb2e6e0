"""What stands for the item encoder where all that it would give has been computed."""

import torch
from torch import nn

from recbole_perpeft.encoder.item_encoder import ItemEncoder
from recbole_perpeft.utils.errors import EncoderError


class AbsentItemEncoder(ItemEncoder):
    """An item encoder without a foundation model: it knows sizes, and refuses to encode.

    Parameters
    ----------
    num_groups
        Modules of the encoder that was trained.
    feature_dim
        Length of its features.
    name
        Of its foundation model.
    """

    def __init__(self, num_groups: int, feature_dim: int, name: str):
        nn.Module.__init__(self)  # all else that an encoder has is its foundation model's
        self.num_groups, self.feature_dim, self.name = num_groups, feature_dim, name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    def encode(self, items: torch.Tensor, group: int) -> torch.Tensor:
        """There is nothing to encode with.

        Raises
        ------
        EncoderError
            Always.
        """
        raise EncoderError(
            f"encoder: this model was opened without {self.name}: the tables of its bundle serve for the items that it "
            "knows, and weights that move need others. Read new items with recbole_perpeft.serving.bundle_encoder."
        )
