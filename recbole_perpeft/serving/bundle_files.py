"""The files of a bundle: written as a whole or not at all, checked before anything of them is used."""

import ctypes
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recbole_perpeft.utils.errors import BundleError

KIND, FORMAT = "recbole_perpeft bundle", 1
MANIFEST, CARD = "bundle.json", "README.md"
_KEYS = {"files": dict, "model": str, "settings": dict, "counts": dict}
_CURE = "Get the bundle again, or export it anew from its checkpoint."


@contextmanager
def new_bundle(folder: str | Path) -> Iterator[Path]:
    """Give a folder to write in, which takes the place of ``folder`` at the end, and is removed if writing fails.

    A reader finds the old bundle or the new one. Where the system cannot exchange two folders in one step, as Linux
    can, the old one is moved aside first: a process that is killed just then leaves it whole as ``.NAME.old``.

    Raises
    ------
    BundleError
        If ``folder`` is there and is no bundle, or cannot be written.
    """
    folder = Path(folder).absolute().resolve()
    check_target(folder)
    temporary, former = (folder.with_name(f".{folder.name}.{word}") for word in (f"{os.getpid()}.tmp", "old"))
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if not folder.is_dir():
            os.replace(temporary, folder)
        elif not _exchange(temporary, folder):
            shutil.rmtree(former, ignore_errors=True)
            os.replace(folder, former)
            os.replace(temporary, folder)
        shutil.rmtree(former, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"The bundle {folder} cannot be written: {error}. What was there before is whole. Free the disk, or name "
            "another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step, if the system can; tells whether it did."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    return rename is not None and not rename(here, os.fsencode(one), here, os.fsencode(other), exchange)


def check_target(folder: str | Path) -> None:
    """Refuse to write where something else is than a bundle.

    Raises
    ------
    BundleError
        If ``folder`` is a file, or a folder with other things.
    """
    folder = Path(folder)
    try:
        is_free = not folder.exists() or (folder.is_dir() and (_is_bundle(folder) or not any(folder.iterdir())))
    except OSError as error:
        raise BundleError(f"{folder} cannot be looked into ({error}): name another folder.") from error
    if not is_free:
        raise BundleError(f"{folder} is there and is no bundle: it would be overwritten. Name another folder.")


def _is_bundle(folder: Path) -> bool:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["kind"] == KIND
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_tensors(file: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors, those that share memory too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(own, file, metadata={"format": "pt"})
    file.chmod(0o666 & ~_umask())  # the library's files are their owner's alone


def _umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


def write_array(file: Path, array: np.ndarray) -> None:
    """Write an array of numbers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, array, allow_pickle=False)


def write_json(file: Path, value: object) -> None:
    """Write lists, mappings, texts and numbers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def seal(folder: Path, facts: Mapping) -> dict:
    """Write the manifest: ``facts``, and size and hash of every file that is read again; gives what was written."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    files = {name: {"size": (folder / name).stat().st_size, "sha256": _sha256(folder / name)} for name in names}
    manifest = {"kind": KIND, "format": FORMAT, **facts, "files": files}
    write_json(folder / MANIFEST, manifest)
    return manifest


def _sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those of its manifest.

    Attributes
    ----------
    folder : pathlib.Path
        Where it is.
    facts : dict
        Its manifest.
    """

    folder: Path
    facts: dict

    @classmethod
    def open(cls, folder: str | Path) -> "Bundle":
        """Read the manifest of ``folder`` and check size and hash of every file in it; no other file is looked at.

        Raises
        ------
        BundleError
            If it is no bundle, is of another format, or a file is missing or not as it was written.
        """
        folder = Path(folder)
        facts = _manifest(folder)
        for name, known in facts["files"].items():
            _check_name(folder, name)
            _check_file(folder / name, known)
        return cls(folder, facts)

    def check_is_there(self) -> None:
        """Refuse what was read, or is about to be, if another bundle has taken the folder's place since it was opened.

        Raises
        ------
        BundleError
            If so.
        """
        if _manifest(self.folder) != self.facts:
            raise BundleError(f"{self.folder} was replaced by another bundle since it was opened: open it again.")

    def encoder(self, *keys: str) -> list:
        """What the manifest says of the encoder under ``keys``.

        Raises
        ------
        BundleError
            If the model reads no content.
        """
        facts = self.facts.get("encoder")
        if not isinstance(facts, dict) or not facts.keys() >= set(keys):
            raise BundleError(f"{self.folder / MANIFEST}: {self.facts['model']} has no encoder of pictures and titles.")
        return [facts[key] for key in keys]

    def names(self, start: str) -> list[str]:
        """The files whose names begin with ``start``."""
        return [name for name in self.facts["files"] if name.startswith(start)]

    def path(self, name: str) -> Path:
        """Where a file is.

        Raises
        ------
        BundleError
            If the manifest does not have it.
        """
        if name not in self.facts["files"]:
            raise BundleError(f"{self.folder / MANIFEST} does not list {name}. {_CURE}")
        return self.folder / name

    def array(self, name: str) -> np.ndarray:
        """An array of numbers as a memory map; what is written into it does not reach the file."""
        file = self.path(name)
        try:
            return np.lib.format.open_memmap(file, mode="c")
        except (OSError, ValueError) as error:  # objects, which only running code could make, are among the latter
            raise BundleError(f"{file} is no array of numbers ({error}); nothing of it was run. {_CURE}") from error

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Tensors by name, on the CPU."""
        file = self.path(name)
        try:
            return load_file(file)
        except (OSError, ValueError, SafetensorError) as error:
            raise BundleError(f"{file} is no safetensors file ({error}); nothing of it was run. {_CURE}") from error

    def json(self, name: str) -> object:
        """Lists, mappings, texts and numbers."""
        return _json(self.path(name))


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file} cannot be read ({error}). {_CURE}") from error


def _manifest(folder: Path) -> dict:
    file = folder / MANIFEST
    if not file.is_file():
        raise BundleError(
            f"{folder} is no bundle: it has no {MANIFEST}. Give the folder that "
            "`python -m recbole_perpeft export CHECKPOINT --out FOLDER` has written."
        )
    facts = _json(file)
    if not isinstance(facts, dict) or facts.get("kind") != KIND:
        raise BundleError(f"{file} is of no bundle of recbole_perpeft: its kind is not {KIND!r}. Give another folder.")
    if facts.get("format") != FORMAT:
        raise BundleError(
            f"{folder} is a bundle of format {facts.get('format')}, and this version of recbole_perpeft reads format "
            f"{FORMAT}: open it with the version that wrote it ({facts.get('versions')}), or export it anew."
        )
    missing = [key for key, kind in _KEYS.items() if not isinstance(facts.get(key), kind)]
    if missing or not all(_is_entry(entry) for entry in facts["files"].values()):
        what = f"lacks {', '.join(missing)}" if missing else "does not tell size and sha256 of its files"
        raise BundleError(f"{file} {what}. {_CURE}")
    return facts


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("size"), int) and isinstance(entry.get("sha256"), str)


def _check_name(folder: Path, name: str) -> None:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise BundleError(f"{folder / MANIFEST} lists {name!r}, which is no file inside the bundle. Do not use it.")


def _check_file(file: Path, known: Mapping) -> None:
    if not file.is_file():
        raise BundleError(f"{file} is missing. {_CURE}")
    try:
        size = file.stat().st_size
        if size != known["size"]:
            raise BundleError(f"{file} has {size:,} bytes and not the {known['size']:,} that were written. {_CURE}")
        if _sha256(file) != known["sha256"]:
            raise BundleError(f"{file} is not what was written: its sha256 is another. {_CURE}")
    except OSError as error:
        raise BundleError(f"{file} cannot be read ({error}). {_CURE}") from error
