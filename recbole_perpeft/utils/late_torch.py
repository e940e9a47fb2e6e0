"""torch without what a process that only answers does not read of it, until it does."""

import sys
import types
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import version

# of compilers: torch's operators once more, in Python, and what they give of tensors without values. They import one
# another, and only whoever begins with the first gets to the end
_OF_COMPILERS = ("torch._meta_registrations", "torch._decomp", "torch._prims", "torch._refs")
_WITH_THEM = (*_OF_COMPILERS[1:], "torch._dynamo", "torch.utils._content_store")  # whoever begins with these fails too
TRIED = "2.13."
_PARTS = (*_OF_COMPILERS, "torch.distributions", "torch.export", "torch.masked", "torch.profiler", "torch.quantization")


def import_torch_for_serving() -> None:
    """Import torch with these parts left out: 23 MiB less, and less to wait for.

    Each is imported when something is first read of it, or when it is imported by name. Who computes on the device
    ``meta`` does neither, and calls :func:`know_shapes` before. A torch that is there already stays as it is, and so
    does one of a version that this was not tried with: which parts read which is nothing that torch promises.
    """
    if "torch" in sys.modules or not version("torch").startswith(TRIED):
        return
    late = {part: _LatePart(part) for part in _PARTS}
    sys.modules.update(late)
    sys.meta_path.insert(0, _FirstThingsFirst())
    try:
        import torch
    finally:
        for part in late.values():
            part.leave()
    for name, part in late.items():
        if name not in sys.modules:
            setattr(torch, name.rpartition(".")[2], part)
    _let_generators_be_made()


def know_shapes() -> None:
    """Let torch compute all that it can on the device ``meta``, on which tensors have shapes and no values."""
    import_module(_OF_COMPILERS[0])


class _LatePart(types.ModuleType):
    """Stands for a part of torch until something is read of it."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__path__":  # imports and inspect ask every module for some
            raise AttributeError(name)
        self.leave()
        return getattr(import_module(self.__name__), name)

    def leave(self) -> None:
        """Let the next import of it find the part itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


class _FirstThingsFirst:
    """Imports the first part of compilers before any other module of theirs is looked for."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name not in _WITH_THEM or _OF_COMPILERS[0] in sys.modules:
            return None
        know_shapes()
        module = sys.modules.get(name)
        if module is None:
            return None
        module.__spec__ = ModuleSpec(name, _Imported(module.__spec__))
        return module.__spec__


class _Imported:
    """Gives an import that has begun before it the module that is there now, of the specification ``spec``."""

    def __init__(self, spec: ModuleSpec):
        self._spec = spec

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: types.ModuleType) -> None:
        module.__spec__ = self._spec


def _let_generators_be_made() -> None:
    """Give torch's generators their class, as torch does in a part that is left out."""
    import torch

    torch._C._set_generator_metaclass(import_module("torch._opaque_base").OpaqueBaseMeta)
