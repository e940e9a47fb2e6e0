"""Opening pickles of plain data. A pickle is a program; here nothing of it runs but what makes numbers and containers."""

import io
import pickle
from pathlib import Path

from recbole_perpeft.utils.errors import DataError

_ARRAYS = {  # by which numpy's arrays and scalars are made anew, under the names of both its major versions
    **{
        (f"numpy.{core}.multiarray", name): name
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "ndarray",
}  # fmt: skip
_CONTAINERS = {("collections", "OrderedDict"), ("collections", "defaultdict")} | {
    ("builtins", name) for name in ("dict", "list", "set", "frozenset", "int", "float", "str", "bytes", "bool")
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) in _CONTAINERS or (module, name) in _ARRAYS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no plain data")


def read_plain_pickle(path: Path) -> object:
    """Open a pickle of dictionaries, lists, sets, tuples, texts, numbers and numpy's arrays of them.

    Raises
    ------
    DataError
        If it asks for anything else, which is not run, or cannot be read.
    """
    try:
        found = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # what a damaged pickle raises is any of a dozen
        raise DataError(
            f"{path} is not opened: {error}. A pickle can run programs, so only one of plain dictionaries, lists, texts "
            "and numbers is read. Write it anew from such."
        ) from error
    return found
