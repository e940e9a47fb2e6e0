"""Config: RecBole's, plus this package's models and properties, typed command line values and checked keys."""

import ast
import difflib
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import recbole
import torch
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType, argument_list, get_model

from recbole_perpeft.checks import check_values
from recbole_perpeft.errors import SettingError

# keys that RecBole reads although none of its YAML files names them
_KEYS_WITHOUT_DEFAULT = {
    "model", "dataset", "config_file", "config_files", "encoding", "embedding_size", "hidden_size", "loss_type",
    "alias_of_entity_id", "reg_weight", "numerical_features", "discretization", "seq_len", "require_pow",
    "training_neg_sample_num", "neg_sampling", "token_emb_method",
}  # fmt: skip

# text settings without a text default: what is typed arrives as it was typed, never as a number or an object
_TEXT_KEYS = {
    "model", "dataset", "encoder", "image_encoder", "text_encoder", "text_template", "image_field", "resume",
    "rm_dup_inter", "user_inter_num_interval", "item_inter_num_interval", "dataset_save_path", "dataloaders_save_path",
    "image_pooling", "text_pooling",
}  # fmt: skip

# what Config derives from other settings; a checkpoint stores what it was derived from instead
_DERIVED_KEYS = {
    "MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank", "valid_metric_bigger",
    "valid_neg_sample_args", "test_neg_sample_args", "train_neg_sample_args", "data_path",
    "INVERSE_ITEM_SEQ", "MASK_ITEM_SEQ", "MASK_INDEX", "POS_ITEMS", "NEG_ITEMS",  # by a backbone's transform
}  # fmt: skip


def _properties_folder() -> Path:
    """The folder of our YAML files: inside the installed package, or beside it in a checkout."""
    installed = Path(__file__).parent / "properties"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "properties"


PROPERTIES = _properties_folder()
YAML_LOADER = RecBoleConfig._build_yaml_loader(None)  # reads 1e-3 as a number, as RecBole's files need
RECBOLE_PROPERTIES = Path(recbole.__file__).parent / "properties"


def our_models() -> dict[str, type]:
    """Model classes of this package by name."""
    from recbole_perpeft import backbones, general_backbones  # a Config is made before any model is needed

    both = {**vars(backbones), **vars(general_backbones)}
    return {name: value for name, value in both.items() if getattr(value, "backbone_name", None)}


@cache
def _recbole_model_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (RECBOLE_PROPERTIES / "model").glob("*.yaml")))


def find_model(name: str) -> type:
    """The model class called ``name``, ours or RecBole's.

    Raises
    ------
    SettingError
        If neither has a model of that name (the message names the nearest), or its backbone has no item table.
    """
    ours = our_models()
    if name in ours:
        return ours[name]
    backbone = name.removeprefix("PerPEFT")
    if backbone != name and backbone in _recbole_model_names():
        known = ", ".join(model.backbone_name for model in ours.values())
        raise SettingError(
            f"model: {name} does not exist: the item tower stands in the place of item embeddings, and RecBole's "
            f"{backbone} has none or is of a kind that is not covered. Choose a PerPEFT model on one of: {known}."
        )
    if name not in _recbole_model_names() or name.lower() not in _recbole_modules():
        raise SettingError.unknown("model", name, [*ours, *_recbole_model_names()])
    return get_model(name)


@cache
def _recbole_modules() -> frozenset[str]:
    import recbole.model

    folders = Path(recbole.model.__file__).parent.glob("*_recommender")
    return frozenset(info.name for info in pkgutil.iter_modules([str(folder) for folder in folders]))


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
        known.update(yaml.load(file.read_text(encoding="utf-8"), Loader=YAML_LOADER) or {})
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
    if text in ("None", "null", "~", ""):
        return None
    if key in _TEXT_KEYS or isinstance(default, str):
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
        values.update(read_yaml(_find_config_file(file)))
    return values


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


class Config(RecBoleConfig):
    """Settings of one run. Priority: command line > ``config_dict`` > ``config_file_list`` > dataset > model > overall.

    Parameters
    ----------
    model, dataset
        Names (or a model class); ``None``: read from the other sources, else the defaults of ``overall.yaml``.
    config_file_list
        YAML files; a later one wins.
    config_dict
        Settings as a dictionary.
    command_line
        ``--key=value`` strings. RecBole reads ``sys.argv`` instead, which misfires in notebooks and test runners.

    Raises
    ------
    SettingError
        On an unknown key (the message names the nearest), an unknown model, an unreadable YAML file, or a command
        line word that is not ``--key=value``.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path] | None = None,
        config_dict: dict | None = None,
        command_line: Sequence[str] = (),
    ):
        self._command_line = command_line
        super().__init__(model, dataset, config_file_list, dict(config_dict or {}))

    # -- where values come from -------------------------------------------------------------------------------------

    def _load_config_files(self, file_list):
        return read_settings_files(file_list or [])

    def _load_cmd_line(self):
        values = {}
        for word in self._command_line:
            key, equals, text = word.removeprefix("--").partition("=")
            if not (word.startswith("--") and equals and key):
                raise SettingError(f"Command line word {word!r} is not understood: write --key=value.")
            if key in values and values[key] != text:
                raise SettingError(f"--{key} is given twice, as {values[key]!r} and as {text!r}: keep one.")
            values[key] = text
        return self._convert_config_dict(values)

    def _convert_config_dict(self, config_dict):
        defaults = known_settings()
        return {
            key: parse_value(key, value, defaults.get(key)) if isinstance(value, str) else value
            for key, value in config_dict.items()
        }

    def _merge_external_config_dict(self):
        super()._merge_external_config_dict()
        known = known_settings()
        for key in self.external_config_dict:
            if key not in known:
                raise SettingError.unknown("setting", key, known)

    def _get_model_and_dataset(self, model, dataset):
        defaults = read_yaml(PROPERTIES / "overall.yaml")
        model = model or self.external_config_dict.get("model") or defaults["model"]
        dataset = dataset or self.external_config_dict.get("dataset") or defaults["dataset"]
        model_class = find_model(model) if isinstance(model, str) else model
        return model_class.__name__, model_class, str(dataset)

    def _load_internal_config_dict(self, model, model_class, dataset):
        backbone = getattr(model_class, "backbone_name", None)
        # RecBole appends the keys of the data set's YAML to these shared lists at every construction
        self.parameters = {category: list(keys) for category, keys in self.parameters.items()}
        super()._load_internal_config_dict(backbone or model, model_class, dataset)
        ours = ["overall", f"model/{model}", f"dataset/{dataset}"]
        if backbone:  # what is for PerPEFT models only must not shorten a built-in model's training
            general = ["model/PerPEFTGeneral"] if model_class.type == ModelType.GENERAL else []
            ours = ["overall", "model/PerPEFT", *general, *ours[1:], f"dataset/{dataset}-PerPEFT"]
        for file in ours:
            if (PROPERTIES / f"{file}.yaml").is_file():
                self._update_internal_config_dict(PROPERTIES / f"{file}.yaml")

    # -- what follows from the values -------------------------------------------------------------------------------

    def _get_final_config_dict(self):
        self.final_config_dict = final = super()._get_final_config_dict()
        ours = hasattr(self.model_class, "backbone_name")
        check_values(self, ours)
        if ours:
            from recbole_perpeft.encoder import check_peft  # takes seconds, which built-in models need not wait

            check_peft(final["peft_type"], final["peft_config"])
        if final.get("load_col") is None and "load_col" not in self.external_config_dict:
            final["load_col"] = {"inter": [final[name] for name in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]}
            if final.get("selected_features"):  # of a backbone with item features
                final["load_col"]["item"] = [final["ITEM_ID_FIELD"], *final["selected_features"]]
        self._fit_negatives_to_loss(final)
        self.base_data_path = str(final["data_path"])
        return final

    def _fit_negatives_to_loss(self, final: dict) -> None:
        """RecBole refuses its own default, one sampled negative, for its own default sequential loss, CE."""
        ours = hasattr(self.model_class, "backbone_name")
        sequential_ce = final["MODEL_TYPE"] == ModelType.SEQUENTIAL and final.get("loss_type") == "CE"
        if ours or (sequential_ce and "train_neg_sample_args" not in self.external_config_dict):
            final["train_neg_sample_args"] = None

    def _init_device(self):
        super()._init_device()
        if not self["use_gpu"] and self["single_spec"]:  # RecBole goes by gpu_id alone, and takes a GPU nevertheless
            self.final_config_dict["device"] = torch.device("cpu")

    def _set_default_parameters(self):
        super()._set_default_parameters()
        demo = PROPERTIES.parent / "dataset" / "demo"
        if self.dataset == "demo" and not Path(self["data_path"]).is_dir() and demo.is_dir():
            self.final_config_dict["data_path"] = str(demo)

    def settings(self) -> dict:
        """The settings as plain values, enough to make this Config again with ``config_dict``."""
        plain = {key: value for key, value in self.final_config_dict.items() if key not in _DERIVED_KEYS}
        if "train_neg_sample_args" in self.external_config_dict:
            plain["train_neg_sample_args"] = self.external_config_dict["train_neg_sample_args"]
        return {**plain, "data_path": self.base_data_path}


def _find_config_file(file: str | Path) -> Path:
    """``file`` itself, or the one of that name under our properties (so that an installed package's are found)."""
    file = Path(file)
    packaged = PROPERTIES.joinpath(*file.parts[1:]) if file.parts[:1] == ("properties",) else file
    if not file.is_file() and not packaged.is_file():
        nearby = sorted(str(path) for path in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
        near = difflib.get_close_matches(str(file), nearby, n=1, cutoff=0.5)
        raise SettingError(f"Settings file {file} does not exist." + (f" Did you mean {near[0]}?" if near else ""))
    return file if file.is_file() else packaged
