"""What runs read from files, by content: a finished run counts as long as its files are what they were."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from recbole_perpeft.config import Config
from recbole_perpeft.config.identity import PLACES
from recbole_perpeft.config.registry import reads_content
from recbole_perpeft.content.failed_downloads import FILE_NAME
from recbole_perpeft.content.file_hashes import hash_files
from recbole_perpeft.content.item_file import read_item_texts
from recbole_perpeft.content.picture_files import find_by_column
from recbole_perpeft.utils.errors import PerPEFTError

_ATOMIC = ("inter", "user", "item", "kg", "link", "net")  # RecBole's kinds of files


class Inputs:
    """Hashes of what runs read; each file is read once for all of them."""

    def __init__(self):
        self._hashes: dict[Path, str] = {}

    def of(self, model: str, dataset: str, settings: Mapping) -> dict[str, str]:
        """Name and hash of each input of a run: atomic files, pictures, encoders, files that other settings name.

        Neither times nor folders enter it, so that a copy is the same on every machine. A run that cannot be done has
        none: its process says why.
        """
        try:
            config = Config(model, dataset, config_dict=dict(settings))
            groups = {file.name: [file] for file in self._atomic_files(config)}
            if reads_content(config.model_class):
                groups |= self._content(config)
            return {name: self._hash(files) for name, files in groups.items() if files} | self._named_files(config)
        except (PerPEFTError, OSError):
            return {}

    def _atomic_files(self, config: Config) -> list[Path]:
        folder, name = Path(config["data_path"]), config["dataset"]
        suffixes = {*(config["load_col"] or [*_ATOMIC, *(config["additional_feat_suffix"] or [])])}
        if reads_content(config.model_class) and (
            "text" in config["modalities"] or config["image_field"] or config["item_features"]
        ):
            suffixes.add("item")
        parts = [f".{part}" for part in config["benchmark_filename"] or []] + [""]
        files = [folder / f"{name}{part}.{suffix}" for suffix in sorted(suffixes) for part in parts]
        return [file for file in files if file.is_file()]

    def _content(self, config: Config) -> dict[str, list[Path]]:
        folder = Path(config["data_path"])
        if config["item_features"]:
            return {"item_features": [folder / config["item_features"][modality] for modality in config["modalities"]]}
        pair = [key for key in ("image_encoder", "text_encoder") if config[key]]
        groups = {key: _encoder_files(key, config[key], folder) for key in pair or ["encoder"]}
        if "image" in config["modalities"]:
            groups["pictures"] = _pictures(config, folder)
        return groups

    def _named_files(self, config: Config) -> dict[str, str]:
        values = {
            key: value for key, value in config.settings().items() if key not in PLACES and isinstance(value, str)
        }
        return {key: self._hash([Path(value)]) for key, value in sorted(values.items()) if Path(value).is_file()}

    def _hash(self, files: Iterable[Path] | str) -> str:
        """Of names and bytes of files; a text stands for itself."""
        if isinstance(files, str):
            return files
        files = sorted(files)
        new = [file for file in files if file not in self._hashes]
        self._hashes |= zip(new, hash_files(new), strict=True)
        text = "\n".join(f"{file.name} {self._hashes[file]}" for file in files)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _encoder_files(setting: str, name: str, folder: Path) -> list[Path] | str:
    """A folder's files, or of a hub name the commit that is in the cache (the name, if none is)."""
    from recbole_perpeft.encoder.foundation.model_folder import resolve_checkpoint  # waits for transformers

    checkpoint = resolve_checkpoint(setting, name, (folder,))
    if not Path(checkpoint).is_dir():
        cached = try_to_load_from_cache(checkpoint, "config.json")
        return f"{checkpoint} {Path(cached).parent.name}" if isinstance(cached, str) else checkpoint
    within = (file.relative_to(checkpoint) for file in Path(checkpoint).rglob("*") if file.is_file())
    read = (file for file in within if file.suffix != ".md" and not any(part.startswith(".") for part in file.parts))
    return [Path(checkpoint) / file for file in read]


def _pictures(config: Config, folder: Path) -> list[Path]:
    if not config["image_field"]:
        files = (folder / config["image_dir"]).iterdir()  # with any ending or none
        return [file for file in files if file.is_file() and file.name != FILE_NAME]
    file, fields = folder / f"{config['dataset']}.item", [config["image_field"]]
    encoding, separator = config["encoding"] or "utf-8", config["field_separator"]
    rows = read_item_texts(file, config["ITEM_ID_FIELD"], fields, encoding=encoding, separator=separator)
    named = {item: row[config["image_field"]] for item, row in rows.items()}
    return [path for path in find_by_column([*named], named, folder) if path]


def why_again(result: Mapping, inputs: Mapping[str, str], sources: str, keep_other_builds: bool) -> str | None:
    """Why a finished run does not count any more; None if it does.

    Parameters
    ----------
    result
        Of the run.
    inputs
        From :meth:`Inputs.of`, now.
    sources
        Hash of the package's sources, now.
    keep_other_builds
        Whether runs of other sources count too; of those that have not noted what they read, nothing more is known.
    """
    before = result.get("inputs")
    if before is not None:
        names = sorted(name for name in {*before, *inputs} if before.get(name) != inputs.get(name))
        if names:
            return f"{' and '.join(names)} changed since"
    if keep_other_builds or (result.get("sources") == sources and before is not None):
        return None
    return "another build did it (keep such runs with --keep_other_builds)"
