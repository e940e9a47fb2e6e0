"""Config: RecBole's, plus this package's models and properties, typed command line values and checked keys."""

from collections.abc import Sequence
from pathlib import Path

import torch
from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType

from recbole_perpeft.config.checks import check_values
from recbole_perpeft.config.data_settings import check_data_settings
from recbole_perpeft.config.evaluation_settings import complete_evaluation
from recbole_perpeft.config.load_columns import check_labels, columns_to_load, with_item_ids
from recbole_perpeft.config.registry import find_model, is_perpeft, reads_content, settings_files
from recbole_perpeft.config.setting_effects import drop_unread, without_effect
from recbole_perpeft.config.settings import (
    PROPERTIES,
    known_settings,
    merge_settings,
    parse_value,
    read_settings_files,
    read_yaml,
)
from recbole_perpeft.config.table import check_known
from recbole_perpeft.utils import processes
from recbole_perpeft.utils.errors import PerPEFTError, SettingError
from recbole_perpeft.utils.launch import Place

# what Config derives from other settings; a checkpoint stores what it was derived from instead
_DERIVED_KEYS = {
    "MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank", "world_size",
    "valid_metric_bigger", "gpu_id",
    "valid_neg_sample_args", "test_neg_sample_args", "train_neg_sample_args", "data_path",
    "INVERSE_ITEM_SEQ", "MASK_ITEM_SEQ", "MASK_INDEX", "POS_ITEMS", "NEG_ITEMS",  # by a backbone's transform
}  # fmt: skip
_AS_GIVEN = ("train_neg_sample_args", "gpu_id")  # of these, where somebody has given them


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
        On an unknown key (the message names the nearest), an unknown model, an unreadable YAML file, a command
        line word that is not ``--key=value``, or a value that is not possible.

    Attributes
    ----------
    remarks : list of str
        What the log should say about the settings: those that follow others, and those that change nothing.
    """

    def __init__(
        self,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path] | None = None,
        config_dict: dict | None = None,
        command_line: Sequence[str] = (),
    ):
        self._command_line, self.remarks = command_line, []
        super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        self.remarks += self._without_effect()

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
        self.external_config_dict = merge_settings(
            self.file_config_dict, self.variable_config_dict, self.cmd_config_dict
        )
        check_known(self.external_config_dict, known_settings())

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
        own = [f"model/{model}", f"dataset/{dataset}"]
        if backbone:  # what is for PerPEFT models only must not shorten a built-in model's training
            own.append(f"dataset/{dataset}-PerPEFT")
        own_files = [PROPERTIES / f"{name}.yaml" for name in own]
        for file in (PROPERTIES / "overall.yaml", *settings_files(model_class), *own_files):
            if file.is_file():
                self._update_internal_config_dict(file)

    def _update_internal_config_dict(self, file):
        values = read_yaml(file)  # by libyaml: RecBole's own loader takes ten times as long
        self.internal_config_dict.update(values)
        return values

    # -- what follows from the values -------------------------------------------------------------------------------

    def _get_final_config_dict(self):
        self.final_config_dict = final = super()._get_final_config_dict()
        ours = is_perpeft(self.model_class)
        if ours:
            drop_unread(self)
        check_values(self, ours)
        complete_evaluation(self)
        if ours:
            self._check_encoder()
        if final["load_col"] is not None:  # of a file that it does not name RecBole would load nothing
            columns = [final[name] for name in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
            final["load_col"] = {"inter": columns, **final["load_col"]}
        self._fit_negatives_to_loss(final)
        self.base_data_path = str(final["data_path"])
        return final

    def _check_encoder(self) -> None:
        self.model_class.check_settings(self.final_config_dict)

    def _without_effect(self) -> list[str]:
        return without_effect(self)

    def _fit_negatives_to_loss(self, final: dict) -> None:
        """RecBole refuses its own default, one sampled negative, for its own default sequential loss, CE."""
        ours = is_perpeft(self.model_class)
        sequential_ce = final["MODEL_TYPE"] == ModelType.SEQUENTIAL and final.get("loss_type") == "CE"
        if ours or (sequential_ce and "train_neg_sample_args" not in self.external_config_dict):
            final["train_neg_sample_args"] = None

    def _init_device(self):
        final, here = self.final_config_dict, processes.here()
        if here and "gpu_id" not in self.external_config_dict:
            final["gpu_id"] = ",".join(map(str, range(here.local_count)))
        super()._init_device()
        if not self["use_gpu"]:  # RecBole goes by gpu_id alone, and takes a GPU nevertheless
            final["device"] = torch.device("cpu")
        if here:
            self._take(here)

    def _take(self, here: Place) -> None:
        """Of several processes, what is this one's."""
        final, gpus = self.final_config_dict, self["gpu_id"].split(",")
        if final["device"].type == "cuda":
            number = min(len(gpus), torch.cuda.device_count())
            if number < here.local_count:
                raise SettingError(
                    f"gpu_id: {self['gpu_id']} gives {number} GPUs to the {here.local_count} processes of this "
                    "machine, each of which needs its own. Name as many, start fewer processes, or set use_gpu: False."
                )
            final["device"] = torch.device("cuda", here.local_rank)
        if here.rank:
            final["show_progress"] = final["log_wandb"] = False
        if not reads_content(self.model_class) and final["MODEL_TYPE"] != ModelType.TRADITIONAL:
            final |= {"single_spec": False, "local_rank": here.local_rank, "world_size": here.count}

    def _set_default_parameters(self):
        try:
            super()._set_default_parameters()
        except PerPEFTError:
            raise
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:  # what only RecBole checks
            raise SettingError(str(error)) from error
        demo = PROPERTIES.parent / "dataset" / "demo"
        if self.dataset == "demo" and not Path(self["data_path"]).is_dir() and demo.is_dir():
            self.final_config_dict["data_path"] = str(demo)
        check_data_settings(self)
        if self["load_col"] is None and "load_col" not in self.external_config_dict:
            self.final_config_dict["load_col"] = columns_to_load(self)
        elif self["unbought_items"] and self["load_col"]:  # of ~ everything is loaded
            self.final_config_dict["load_col"] = with_item_ids(self)
        check_labels(self)

    def settings(self) -> dict:
        """The settings as plain values, enough to make this Config again with ``config_dict``."""
        plain = {key: value for key, value in self.final_config_dict.items() if key not in _DERIVED_KEYS}
        given = {key: self.external_config_dict[key] for key in _AS_GIVEN if key in self.external_config_dict}
        return {**plain, **given, "data_path": self.base_data_path}
