"""The last layer of an encoder, past its attention run only at the position that the feature reads."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

# Where towers read their feature: at the class token, at the last position (SigLIP), at the first end token (CLIP).
POSITIONS = ("first", "last", "end")


class LastLayer:
    """Hands a layer norm of the last layer one position of each item, and so all that comes after it.

    What a ViT or CLIP does not read of its last layer, which is all but one position, needs no feed-forward network,
    which is two thirds of the layer. The residual beside it keeps all positions; the one that is read is right.

    Parameters
    ----------
    norm
        The norm; takes the states ``[n, positions, d]``.
    position
        One of :data:`POSITIONS`.
    end_token
        Token that ends a text; read for "end".

    Attributes
    ----------
    position : str
        That position.
    """

    def __init__(self, norm: nn.Module, position: str, end_token: int | None = None):
        self.position, self._end_token = position, end_token
        self._trim = _Trim()
        self._hook = norm.register_forward_pre_hook(self._trim)

    @contextlib.contextmanager
    def trimmed(self, batch: dict[str, torch.Tensor]) -> Iterator[None]:
        """Run the layer so for a while, on ``batch`` (of :meth:`FoundationModel.encode`)."""
        self._trim.index = position_in(self.position, batch, self._end_token)
        try:
            yield
        finally:
            self._trim.index = None

    def remove(self) -> None:
        """Leave the norm as it was."""
        self._hook.remove()


class _Trim:
    """The hook: keeps the states at ``index``, while there is one."""

    def __init__(self) -> None:
        self.index: int | torch.Tensor | None = None

    def __call__(self, module: nn.Module, args: tuple[torch.Tensor]) -> torch.Tensor | None:
        if self.index is None:
            return None
        (states,) = args  # [n, positions, d]
        return at_position(states, self.index)  # [n, 1, d]

    def __deepcopy__(self, memo: dict) -> "_Trim":
        return self  # peft trains copies of layer norms (LN_TUNING): they are trimmed with the rest


def position_in(position: str, batch: dict[str, torch.Tensor], end_token: int | None) -> int | torch.Tensor:
    """Index of a position: of all items, or ``[n]`` of each."""
    if position == "end":
        return (batch["input_ids"] == end_token).int().argmax(dim=1)
    return 0 if position == "first" else -1


def at_position(states: torch.Tensor, index: int | torch.Tensor) -> torch.Tensor:
    """States ``[n, positions, d]`` at one position of each item: ``[n, 1, d]``."""
    if isinstance(index, int):
        return states.narrow(1, index % states.shape[1], 1)  # a view: an index would have to be sent to a GPU each time
    return states.take_along_dim(index.to(states.device)[:, None, None], dim=1)
