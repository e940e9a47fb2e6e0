"""RecBole without what it seldom uses: it imports scikit-learn, TensorBoard, pandas and scipy at every start."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

# what RecBole takes of them by name, to call it first
_TAKEN = {
    "scipy.sparse": ("coo_matrix", "csr_matrix"),
    "sklearn.exceptions": ("ConvergenceWarning",),
    "sklearn.linear_model": ("ElasticNet",),
    "sklearn.metrics": ("auc", "mean_absolute_error", "mean_squared_error"),
    "sklearn.utils.extmath": ("randomized_svd",),
    "torch.utils.tensorboard": ("SummaryWriter",),
}
_WHOLE = ("pandas", "scipy.sparse")  # which RecBole imports as modules, to read what is in them later


@contextmanager
def waiting() -> Iterator[None]:
    """Import RecBole without these libraries: they are imported when it first uses one of them.

    A library that is there already stays, and so does what RecBole has taken of it. Whoever else imports one afterwards
    has the library itself.
    """
    _repair()
    late = {library: _LateModule(library) for library in {*_TAKEN, *_WHOLE} if library not in sys.modules}
    for library, module in late.items():
        vars(module).update({name: _Late(library, name) for name in _TAKEN.get(library, ())})
    sys.modules.update(late)
    try:
        yield
    finally:
        for library, module in late.items():
            if sys.modules.get(library) is module:
                del sys.modules[library]


class _LateModule(types.ModuleType):
    """Stands for a library until something is read of it; then all of RecBole has the library itself."""

    def __getattr__(self, name):
        if name.startswith("__"):  # imports and inspect ask every module for some
            raise AttributeError(name)
        return getattr(_brought(self.__name__), name)


class _Late:
    """Stands for something of a library until it is called; then all of RecBole has the library's own."""

    def __init__(self, library: str, name: str):
        self.library, self.name = library, name

    def __call__(self, *args, **kwargs):
        return getattr(_brought(self.library), self.name)(*args, **kwargs)


def _brought(name: str) -> types.ModuleType:
    """The library ``name``, which all modules of RecBole have from now on, with all of its package."""
    package = name.partition(".")[0]

    def real(value: object) -> object:
        if isinstance(value, _LateModule) and value.__name__.partition(".")[0] == package:
            return _import(value.__name__)
        if isinstance(value, _Late) and value.library.partition(".")[0] == package:
            return getattr(_import(value.library), value.name)
        return value

    library = _import(name)
    for module in [module for key, module in sys.modules.copy().items() if key.startswith("recbole.")]:
        vars(module).update({key: real(value) for key, value in vars(module).items()})
    return library


def _import(name: str) -> types.ModuleType:
    if isinstance(sys.modules.get(name), _LateModule):
        del sys.modules[name]
    library = import_module(name)
    _repair()
    return library


def _repair() -> None:
    """Give back ``dok_matrix._update``, gone from scipy 1.13, with which LightGCN and others fill the graph."""
    sparse = sys.modules.get("scipy.sparse")
    if sparse is None or isinstance(sparse, _LateModule) or hasattr(sparse.dok_matrix, "_update"):
        return

    def _update(self, data):
        self._dict.update(data)

    sparse.dok_matrix._update = _update
