"""Settings as they are written: which keys there are, what a typed value means, and what a YAML file holds."""

import ast
import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import recbole
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.utils import argument_list

from recbole_perpeft.config.table import SETTINGS
from recbole_perpeft.utils.errors import SettingError

# keys that RecBole reads although none of its YAML files names them
_KEYS_WITHOUT_DEFAULT = {
    "model", "dataset", "config_file", "config_files", "encoding", "embedding_size", "hidden_size", "loss_type",
    "alias_of_entity_id", "reg_weight", "numerical_features", "discretization", "seq_len", "require_pow",
    "training_neg_sample_num", "neg_sampling", "token_emb_method",
}  # fmt: skip


def _properties_folder() -> Path:
    """The folder of our YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "properties"
    return installed if installed.is_dir() else package.parent / "properties"


PROPERTIES = _properties_folder()


class _YamlLoader(getattr(yaml, "CFullLoader", yaml.FullLoader)):
    """RecBole's loader, which reads 1e-3 as a number, on libyaml's parser: it reads 200 files ten times as fast."""

    yaml_implicit_resolvers = RecBoleConfig._build_yaml_loader(None).yaml_implicit_resolvers

    def construct_mapping(self, node, deep=False):
        """Refuses a key that comes twice, of which YAML's own loader takes the last."""
        known = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in known:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            known.add(key.value)
        return super().construct_mapping(node, deep)


YAML_LOADER = _YamlLoader
RECBOLE_PROPERTIES = Path(recbole.__file__).parent / "properties"


@cache
def known_settings() -> dict:
    """Every key that RecBole or this package reads, with its default where a YAML file gives one."""
    files = [RECBOLE_PROPERTIES / "overall.yaml", RECBOLE_PROPERTIES / "dataset" / "sample.yaml"]
    files += sorted((RECBOLE_PROPERTIES / "model").glob("*.yaml")) + sorted((PROPERTIES / "model").glob("*.yaml"))
    files += [PROPERTIES / "overall.yaml"]
    lists = (argument_list.general_arguments, argument_list.training_arguments)
    lists += (argument_list.evaluation_arguments, argument_list.dataset_arguments)
    known = dict.fromkeys({key for names in lists for key in names} | _KEYS_WITHOUT_DEFAULT)
    for file in files:
        known.update(read_yaml(file))
    return known


def parse_value(key: str, text: str, default: object = None) -> object:
    """The value of a setting that was typed as text.

    Unlike RecBole, nothing is evaluated: Python literals, ``true``/``false`` and ``null``/``~`` are understood, all
    else stays text, and settings that are text (a model's name, a folder) arrive as they were typed.

    Parameters
    ----------
    key
        Name of the setting.
    text
        What was typed after ``=``.
    default
        The setting's default; if it is a text, so is the result.
    """
    if text == default:  # RecBole's files hold the text None, and empty ones
        return text
    if text in ("None", "null", "~", ""):
        return None
    if isinstance(default, str) or (key in SETTINGS and SETTINGS[key].type is str):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _parse_yaml(text)


def _parse_yaml(text: str) -> object:
    """Lists and dicts whose words are not quoted, e.g. ``[title,brand]`` or ``{r: 8}``; all else stays text."""
    if text[:1] not in "[{":
        return text
    try:
        return yaml.load(text, Loader=YAML_LOADER)
    except yaml.YAMLError:
        return text


def read_settings_files(files: Sequence[str | Path]) -> dict:
    """Settings of YAML files, a later one's before an earlier one's; whether they can be used is not looked at.

    Raises
    ------
    SettingError
        If a file does not exist, or holds no settings.
    """
    values = {}
    for file in files:
        values = merge_settings(values, read_yaml(_find_config_file(file)))
    return values


def settings_of(words: Sequence[str]) -> dict:
    """``KEY=VALUE`` (or ``--KEY=VALUE``) words as typed values.

    Raises
    ------
    SettingError
        On a word of another form.
    """
    known, values = known_settings(), {}
    for word in words:
        key, equals, text = word.removeprefix("--").partition("=")
        if not equals or not key:
            raise SettingError(f"Setting {word!r} is not understood: write key=value.")
        values[key] = parse_value(key, text, known.get(key))
    return values


def merge_settings(*sources: Mapping) -> dict:
    """Settings of all sources, a later one's before an earlier one's; ``eval_args`` part by part."""
    merged = {}
    for source in sources:
        for key, value in source.items():
            both = key == "eval_args" and isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = {**merged[key], **value} if both else value
    return merged


def shown(value: object) -> str:
    """A setting's value as YAML has it."""
    return "~" if value is None else str(value)


def read_yaml(file: str | Path, what: str = "Settings file") -> dict:
    """The settings of one YAML file, which errors call ``what``.

    Raises
    ------
    SettingError
        If it cannot be read, or holds no settings.
    """
    try:
        content = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=YAML_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"{what} {file} cannot be read: {error}") from error
    if not isinstance(content, dict | None):
        raise SettingError(f"{what} {file} must hold 'key: value' lines, not a {type(content).__name__}.")
    return content or {}


def keys_of(files: Iterable[Path]) -> set[str]:
    """The settings that any of ``files`` names; those that do not exist name none."""
    return {key for file in files if file.is_file() for key in read_yaml(file)}


def _find_config_file(file: str | Path) -> Path:
    """``file`` itself, or the one of that name under our properties (so that an installed package's are found)."""
    file = Path(file)
    packaged = PROPERTIES.joinpath(*file.parts[1:]) if file.parts[:1] == ("properties",) else file
    if not file.is_file() and not packaged.is_file():
        nearby = sorted(str(path) for path in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
        near = difflib.get_close_matches(str(file), nearby, n=1, cutoff=0.5)
        raise SettingError(f"Settings file {file} does not exist." + (f" Did you mean {near[0]}?" if near else ""))
    return file if file.is_file() else packaged
