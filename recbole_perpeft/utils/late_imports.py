"""Imports that wait until they are needed, and then are quick."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module


def late_imports(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` of ``package`` (PEP 562): it imports a name's module when the name is first asked for.

    Parameters
    ----------
    package
        Its ``__name__``.
    modules
        For each name, the module that it stands in, as seen from the package.
    """

    def find(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return find


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Import thousands of modules without looking for garbage among them, then or later: a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
