"""The last layer of an encoder, past its attention run only at the position that the feature reads."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.hidden_states import gradients_at
from recbole_perpeft.encoder.foundation.layer_cut import find_layers, states_of, with_states

# Where towers read their feature: at the class token, at the last position (SigLIP), at the first end token (CLIP).
POSITIONS = ("first", "last", "end")


def trim_towers(foundation: FoundationModel) -> None:
    """Run the last layer of every tower that reads one position of it only there, past its attention.

    No architecture is known by its name: a norm is trimmed if the feature's gradient at what enters it is zero at all
    other positions, and if the features of two items are the same so. Towers of which that cannot be shown (a mean over
    positions, attention pooling, no stack of layers) stay as they are.

    Parameters
    ----------
    foundation
        Gets its ``last_layers``.
    """
    for modality in foundation.modalities:
        stack = find_layers(foundation.tower_modules(modality))
        if stack is not None:
            _trim(foundation, modality, stack[-1])


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
        self._trim.index = self.index(batch)
        try:
            yield
        finally:
            self._trim.index = None

    def index(self, batch: dict[str, torch.Tensor]) -> int | torch.Tensor:
        """Where the feature of each item of a batch is read: of all items, or ``[n]`` of each."""
        return position_in(self.position, batch, self._end_token)

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
    # as take_along_dim, for which torch.compile would hold on to the number of items
    return states.gather(1, index.to(states.device)[:, None, None].expand(-1, 1, states.shape[-1]))


def _trim(foundation: FoundationModel, modality: str, layer: nn.Module) -> None:
    batch = foundation.probe(modality)
    end_token = getattr(foundation.tokenizer, "eos_token_id", None) if modality == "text" else None
    positions = [p for p in POSITIONS if p != "end" or end_token is not None]
    whole, gradients = _read(foundation, modality, layer, batch)
    for norm, gradient in gradients:
        for position in positions:
            if not _reads_only(gradient, position_in(position, batch, end_token)):
                continue
            foundation.last_layers[modality] = LastLayer(norm, position, end_token)
            if _same(foundation, modality, batch, whole):
                return
            foundation.last_layers.pop(modality).remove()


def _read(
    foundation: FoundationModel, modality: str, layer: nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, list[tuple[nn.Module, torch.Tensor]]]:
    """Features of a batch, and the norms of a layer in their order, each with the gradient at what enters it.

    Features are ``[n, d]``, gradients ``[n, positions, d]``.
    """
    with _observed(layer) as seen, torch.enable_grad():
        features = foundation.encode(modality, batch)
        gradients = gradients_at(list(seen.values()), features, allow_unused=True) if seen else ()
    pairs = zip(seen, gradients, strict=True)
    return features.detach(), [(norm, one) for norm, one in pairs if one is not None and one.ndim == 3]


@contextlib.contextmanager
def _observed(layer: nn.Module) -> Iterator[dict[nn.Module, torch.Tensor]]:
    """Collect what enters the norms of a layer, whose own input has a gradient."""
    seen: dict[nn.Module, torch.Tensor] = {}

    def entering(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return with_states(args, kwargs, states_of(args, kwargs).detach().requires_grad_())

    def norming(module: nn.Module, args: tuple) -> None:
        if args and args[0].requires_grad:
            seen[module] = args[0]

    hooks = [layer.register_forward_pre_hook(entering, with_kwargs=True)]
    norms = [module for module in layer.modules() if type(module).__name__.endswith("Norm")]
    hooks += [norm.register_forward_pre_hook(norming) for norm in norms]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _reads_only(gradient: torch.Tensor, index: int | torch.Tensor) -> bool:
    """Whether a gradient ``[n, positions, d]`` is at ``index`` and nowhere else."""
    read = gradient.abs().amax(dim=-1, keepdim=True) > 0  # [n, positions, 1]
    return bool((read.sum(dim=1) == 1).all() and at_position(read, index).all())


@torch.no_grad()
def _same(foundation: FoundationModel, modality: str, batch: dict[str, torch.Tensor], whole: torch.Tensor) -> bool:
    try:
        return torch.allclose(whole, foundation.encode(modality, batch), atol=1e-5)
    except Exception:  # an architecture that needs all positions after its norm stumbles in its own way
        return False
