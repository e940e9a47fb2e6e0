"""Tiny foundation models, each read from its files once: most tests want one as it was loaded, and few that it is."""

import copy
from pathlib import Path

from recbole_perpeft import encoder as encoders
from recbole_perpeft.encoder.foundation.loading import load_foundation

_NAMES = ("encoder", "image_encoder", "text_encoder")
_loaded: dict = {}


def load_once(**settings):
    """A new copy of what ``load_foundation`` gives, which is asked again as soon as a file has changed."""
    names = [settings.get(name) for name in _NAMES]
    found = [_files_of(name, settings.get("search_folders", ())) for name in names if name]
    if not all(found):  # it is to say what is missing
        return load_foundation(**settings)
    key = repr((sorted(settings.items()), found))
    if key not in _loaded:
        _loaded[key] = load_foundation(**settings)
    return copy.deepcopy(_loaded[key])


def _files_of(name, folders):
    """The files of a model's folder, with what changes when they are written."""
    for folder in (Path(name), *(Path(folder) / name for folder in folders)):
        if folder.is_dir():
            files = sorted(file for file in folder.resolve().rglob("*") if file.is_file())
            return [(str(file), file.stat().st_size, file.stat().st_ctime_ns) for file in files]
    return []


def load_once_everywhere(patch):
    """Let the package load by :func:`load_once`, as a pytest ``patch``."""
    patch.setattr(encoders, "load_foundation", load_once)
