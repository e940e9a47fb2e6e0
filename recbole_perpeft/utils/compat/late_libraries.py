"""RecBole without what it seldom uses: it imports scikit-learn and TensorBoard at every start, a second of it."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

# what RecBole takes of them by name, to call it first
_TAKEN = {
    "sklearn.exceptions": ("ConvergenceWarning",),
    "sklearn.linear_model": ("ElasticNet",),
    "sklearn.metrics": ("auc", "mean_absolute_error", "mean_squared_error"),
    "sklearn.utils.extmath": ("randomized_svd",),
    "torch.utils.tensorboard": ("SummaryWriter",),
}


@contextmanager
def waiting() -> Iterator[None]:
    """Import RecBole without these libraries: they are imported when it first calls one of them.

    A library that is there already stays, and so does what RecBole has taken of it.
    """
    missing = [library for library in _TAKEN if library not in sys.modules]
    for library in missing:
        module = sys.modules[library] = types.ModuleType(library)
        vars(module).update({name: _Late(library, name) for name in _TAKEN[library]})
    try:
        yield
    finally:
        for library in missing:
            del sys.modules[library]


class _Late:
    """Stands for something of a library until it is called; then all of RecBole has the library's own."""

    def __init__(self, library: str, name: str):
        self.library, self.name = library, name

    def __call__(self, *args, **kwargs):
        takers = [module for name, module in sys.modules.copy().items() if name.startswith("recbole.")]
        for taken in (vars(module) for module in takers):
            taken.update({name: value.real() for name, value in taken.items() if isinstance(value, _Late)})
        return self.real()(*args, **kwargs)

    def real(self) -> object:
        return getattr(import_module(self.library), self.name)
