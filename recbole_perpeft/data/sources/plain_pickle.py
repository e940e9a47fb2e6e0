"""Opening pickles of plain data: a pickle is a program, of which only what makes numbers and containers runs here."""

import io
import pickle
from pathlib import Path

from recbole_perpeft.utils.errors import DataError

_PLAIN = {
    *(("builtins", kind.__name__) for kind in (dict, list, set, frozenset, int, float, str, bytes, bool)),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    # by which numpy's arrays and scalars are made anew, in the modules of both its major versions
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
    ),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        module = "builtins" if module == "__builtin__" else module  # as it was called in Python 2
        if (module, name) == ("_codecs", "encode"):
            return _latin  # in old pickles bytes are texts
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no plain data")


def _latin(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has bytes in {encoding!r}")
    return text.encode("latin1")


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
            f"{path} is not opened: {error}. A pickle can run programs, so only one of plain dictionaries, lists, "
            "texts and numbers is read. Write it anew from such."
        ) from error
    return found
