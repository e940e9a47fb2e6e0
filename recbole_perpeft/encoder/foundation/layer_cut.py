"""Cutting a tower below its adapted layers: these run on states of the lower ones that were computed before."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.utils.errors import EncoderError, first_line


def cut_towers(foundation: FoundationModel, kept: int) -> None:
    """Split every tower that has more than ``kept`` layers below its top ``kept`` ones, in place.

    Parameters
    ----------
    foundation
        Gets its ``cuts`` and ``below_cut``.
    kept
        Layers above the cut, 1 or more.

    Raises
    ------
    EncoderError
        If a tower has no stack of layers, or does not give the same features in two parts.
    """
    for modality in foundation.modalities:
        stack = find_layers(foundation.tower_modules(modality))
        if stack is None:
            raise EncoderError(_no_cut(foundation, modality, "it has no stack of layers"))
        if len(stack) > kept:
            foundation.cuts[modality] = LayerCut(stack, len(stack) - kept)
            _check(foundation, modality)


class _Reached(Exception):
    """The first upper layer was reached: the rest of the forward pass is not needed."""


class _Passed(nn.Module):
    """Stands for a lower layer whose work is done: gives its input back, in the form of that layer's output."""

    def __init__(self, gives_tuple: bool):
        super().__init__()
        self.gives_tuple = gives_tuple

    def forward(self, states: torch.Tensor, *args, **kwargs):
        return (states,) if self.gives_tuple else states


class LayerCut:
    """Splits the forward pass of an encoder in two at one of its layers.

    Parameters
    ----------
    layers
        The encoder's stack of layers; each takes the states ``[n, positions, d]`` as its first argument.
    first
        Index of the first layer that still runs in :meth:`resume`.

    Attributes
    ----------
    first : int
        That index.
    """

    def __init__(self, layers: nn.ModuleList, first: int):
        self._layers, self.first = layers, first
        self._states: torch.Tensor | None = None
        self._seen: torch.Tensor | None = None
        self._mode: str | None = None
        self._passed: list[nn.Module] = []
        layers[first].register_forward_pre_hook(self._at_cut, with_kwargs=True)

    @property
    def kept(self) -> int:
        """Number of layers above the cut."""
        return len(self._layers) - self.first

    def states(self, run: Callable[[], object]) -> torch.Tensor:
        """What enters the first upper layer when the encoder runs, ``[n, positions, d]``.

        Parameters
        ----------
        run
            Runs the encoder on its inputs.
        """
        with self._in_mode("record"), contextlib.suppress(_Reached):
            run()
        seen, self._seen = self._seen, None
        return seen

    def resume(self, run: Callable[[], torch.Tensor], states: torch.Tensor) -> torch.Tensor:
        """Run the encoder from the first upper layer on, with ``states`` entering it; gives what ``run`` gives."""
        lower = list(self._layers[: self.first])
        self._states = states
        try:
            for index in range(self.first):
                self._layers[index] = self._passed[index]
            with self._in_mode("replace"):
                return run()
        finally:
            for index, layer in enumerate(lower):
                self._layers[index] = layer
            self._states = None

    def observe(self, run: Callable[[], object]) -> None:
        """Run the whole encoder once, to see in which form its layers give their outputs."""
        self._passed = []
        hooks = [
            layer.register_forward_hook(lambda _, args, output: self._passed.append(_Passed(isinstance(output, tuple))))
            for layer in self._layers[: self.first]
        ]
        try:
            run()
        finally:
            for hook in hooks:
                hook.remove()

    @contextlib.contextmanager
    def _in_mode(self, mode: str) -> Iterator[None]:
        self._mode = mode
        try:
            yield
        finally:
            self._mode = None

    def _at_cut(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if self._mode is None:
            return None
        if self._mode == "record":
            self._seen = states_of(args, kwargs)
            raise _Reached
        return with_states(args, kwargs, self._states)


def states_of(args: tuple, kwargs: dict) -> torch.Tensor:
    """The states ``[n, positions, d]`` among the arguments of a layer."""
    return args[0] if args else kwargs["hidden_states"]


def with_states(args: tuple, kwargs: dict, states: torch.Tensor) -> tuple[tuple, dict]:
    """The arguments of a layer with other states."""
    if args:
        return (states, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": states}


def find_layers(modules: dict[str, nn.Module]) -> nn.ModuleList | None:
    """The stack of an encoder's layers: its longest list of modules of one class.

    Parameters
    ----------
    modules
        The encoder's modules by name.

    Returns
    -------
    ModuleList or None
        None if the encoder has no such list of two layers or more.
    """
    stacks = [
        module
        for module in modules.values()
        if isinstance(module, nn.ModuleList) and len(module) > 1 and len({type(layer) for layer in module}) == 1
    ]
    return max(stacks, key=len, default=None)


def _check(foundation: FoundationModel, modality: str) -> None:
    """Encode two items whole and in two parts; note which modules ran in the first."""
    batch, run = foundation.probe(modality), set()
    modules = foundation.tower_modules(modality)
    try:
        with torch.no_grad():
            foundation.cuts[modality].observe(lambda: foundation.encode(modality, batch))
            whole = foundation.encode(modality, batch)
            hooks = [
                module.register_forward_pre_hook(lambda *_, name=name: run.add(name))
                for name, module in modules.items()
            ]
            try:
                states = foundation.lower_states(modality, batch)
            finally:
                for hook in hooks:
                    hook.remove()
            parts = foundation.encode(modality, batch, states)
        same = torch.allclose(whole, parts, atol=1e-4)
    except Exception as error:  # whatever an architecture that is built otherwise stumbles over
        raise EncoderError(_no_cut(foundation, modality, f"{type(error).__name__}: {first_line(error)}")) from error
    if not same:
        raise EncoderError(_no_cut(foundation, modality, "in two parts it gives other features"))
    foundation.below_cut |= {name for name in run if not any(other.startswith(f"{name}.") for other in modules)}


def _no_cut(foundation: FoundationModel, modality: str, reason: str) -> str:
    return (
        f"peft_layers: the {modality} encoder of {foundation.name} cannot be cut between layers ({reason}). "
        "Set peft_layers: ~ to adapt all of it."
    )
