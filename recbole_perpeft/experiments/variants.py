"""Rows of a comparison: variants and RecBole's models, with PEFT methods and seeds, as runs."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole.utils import ModelType

from recbole_perpeft.config import Config
from recbole_perpeft.config.identity import CHANGEABLE
from recbole_perpeft.config.registry import find_model, is_perpeft, settings_files
from recbole_perpeft.config.settings import PROPERTIES, keys_of, read_yaml, settings_of, shown
from recbole_perpeft.experiments.run import Run
from recbole_perpeft.utils.errors import SettingError

METHOD = "perpeft"  # the variant that the others are compared with
VARIANTS = PROPERTIES / "variant"
# what is measured, and how: one table is about one of each
_OF_ALL_ROWS = (
    "eval_args", "metrics", "topk", "valid_metric", "mask_history", "user_sample", "cold_items", "rm_dup_inter",
    "unbought_items", "val_interval", "filter_inter_by_user_or_item", "user_inter_num_interval",
    "item_inter_num_interval", "benchmark_filename",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    variant : str
        Name of the variant or of RecBole's model.
    peft : str
        PEFT method, or "".
    model : str
        Model class.
    settings : dict
        What is its own; without the seed.
    """

    variant: str
    peft: str
    model: str
    settings: dict

    @property
    def name(self) -> str:
        """How it is called in the table."""
        return f"{self.variant}, {self.peft}" if self.peft else self.variant

    def runs(self, dataset: str, seeds: Sequence[int]) -> list[Run]:
        """One run for each seed."""
        return [
            Run(f"{self.name}, seed {seed}", self.model, dataset, {**self.settings, "seed": seed}) for seed in seeds
        ]


def known_variants() -> list[str]:
    """Names of the variants that come with the package."""
    return sorted(file.stem for file in VARIANTS.glob("*.yaml") if file.stem != "paper")


def check_starts_anew(settings: Mapping) -> None:
    """Refuse runs of a comparison or a search that would not start alike, from nothing.

    Raises
    ------
    SettingError
        Names the setting.
    """
    if settings.get("warm_start"):
        raise SettingError(
            f"warm_start: {settings['warm_start']} is for single runs (run_recbole_perpeft.py): runs that are compared "
            "start alike, from nothing. Leave it out."
        )


def make_rows(
    model: str,
    dataset: str,
    variants: Sequence[str],
    models: Sequence[str],
    pefts: Sequence[str],
    common: dict,
    for_perpeft: dict,
) -> list[Row]:
    """The rows that the command line asks for, each checked as far as that goes without data.

    Parameters
    ----------
    model
        The PerPEFT model of the variants that name none.
    variants
        Names, or YAML files.
    models
        RecBole's models: ``SASRec``, or ``SASRec:loss_type=BPR,learning_rate=0.001`` with settings of their own.
    pefts
        Methods that each variant with a PEFT module is run with, unless it sets ``peft_type`` itself; without any, the
        ``peft_type`` of ``common`` or ``for_perpeft``, or LoRA.
    common
        Settings of all rows.
    for_perpeft
        Settings of the rows of models that read content, as far as a model has them; a variant's own go before them,
        and one that they leave without effect is named and left out of the variant's row.

    Raises
    ------
    SettingError
        On an unknown variant, model or setting, on a variant that needs what the data set lacks, and on methods beside
        a ``peft_type``.
    """
    rows, named = [], {**common, **for_perpeft}.get("peft_type")
    if named and pefts:
        raise SettingError(f"peft_type: {named} and --peft {' '.join(pefts)} exclude each other. Give one of them.")
    for variant in variants:
        name, own = _read_variant(variant)
        own_model = _model_of_kind(own.pop("model", model), model)
        personal = is_perpeft(find_model(own_model))
        shared = {**common, **_read_of(for_perpeft, own_model)}
        methods = (pefts or [named or "LORA"]) if personal and "peft_type" not in own else [None]
        for peft in methods:
            chosen = {"peft_type": peft} if peft else {}
            given = shared
            if personal:
                given = _those_that_go_with(name, own_model, dataset, {**chosen, **own}, shared, for_perpeft, model)
            config = Config(own_model, dataset, config_dict={**given, **chosen, **own})
            if personal and "modalities" in own:
                others = {key: value for key, value in own.items() if key != "modalities"}
                _check_modalities(name, config, Config(own_model, dataset, config_dict={**given, **chosen, **others}))
            method = str(config["peft_type"]).upper() if personal else ""
            rows.append(Row(name, "" if method == "NONE" else method, own_model, {**given, **chosen, **own}))
    for word in models:
        built_in, _, text = word.partition(":")
        own = settings_of(text.split(",")) if text else {}
        Config(built_in, dataset, config_dict={**common, **own})
        rows.append(Row(word, "", built_in, {**common, **own}))
    for row in rows:
        check_starts_anew(row.settings)
    names = [row.name for row in rows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SettingError(f"Row {twice!r} is asked for twice. Keep one, or give its YAML file another name.")
    return rows


def _model_of_kind(name: str | dict[str, str], base: str) -> str:
    """The model that a variant names; of one for each kind of recommender that of the kind of ``base``."""
    if isinstance(name, str):
        return name
    return name["general" if find_model(base).type == ModelType.GENERAL else "sequential"]


def _read_of(for_perpeft: dict, model: str) -> dict:
    """Of the settings that are for models which read content those that ``model`` knows of."""
    model_class = find_model(model)
    if is_perpeft(model_class):
        return for_perpeft
    read = keys_of(settings_files(model_class))
    return {key: value for key, value in for_perpeft.items() if key in read}


def check_same_protocol(rows: Sequence[Row], dataset: str) -> None:
    """Refuse rows that would be measured in different ways or on different data, before one of them is run.

    Raises
    ------
    SettingError
        Names the setting, and the rows.
    """
    configs = [Config(row.model, dataset, config_dict=row.settings) for row in rows]
    sampled = any(config["user_sample"] or config["cold_items"] for config in configs)
    for key in (*_OF_ALL_ROWS, *(["sample_seed"] if sampled else [])):
        first = configs[0][key]
        for row, config in zip(rows, configs, strict=True):
            if config[key] != first:
                raise SettingError(
                    f"Rows {rows[0].name!r} and {row.name!r} cannot be compared: {key} differs ({shown(first)} and "
                    f"{shown(config[key])}). Give it to all rows, as --{key}=…, or leave it out."
                )


def _those_that_go_with(
    variant: str, model: str, dataset: str, own: dict, shared: dict, for_perpeft: dict, base_model: str
) -> dict:
    """``shared`` without what of ``for_perpeft`` is possible in itself, but not beside a variant's ``own``.

    Lengths and rates stay: a row that trains for longer than was asked would be no comparison.
    """

    def error_of(model: str, settings: dict) -> SettingError | None:
        try:
            Config(model, dataset, config_dict=settings)
        except SettingError as error:
            return error
        return None

    if error_of(base_model, {**shared, "peft_type": own.get("peft_type")}) is not None:
        return shared  # making the row raises it
    rest, removable = dict(shared), for_perpeft.keys() - own.keys() - CHANGEABLE - {"global_epochs"}
    while (error := error_of(model, {**rest, **own})) is not None:
        named = str(error).partition(":")[0]
        for key in sorted(removable, key=lambda key: (key != named, key)):
            without = {name: value for name, value in rest.items() if name != key}
            if str(error_of(model, {**without, **own})) != str(error):
                break
        else:
            return shared  # making the row raises it
        print(f"{variant}: --for_perpeft {key}={rest.pop(key)} is left out. {error}", flush=True)
        removable = removable - {key}
    return rest


def _read_variant(variant: str) -> tuple[str, dict]:
    file = Path(variant) if variant.endswith((".yaml", ".yml")) else VARIANTS / f"{variant}.yaml"
    if not file.is_file():
        near = difflib.get_close_matches(variant, known_variants(), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known_variants())}, or a YAML file."
        raise SettingError(f"Unknown variant {variant!r}. {hint}")
    return file.stem, read_yaml(file, "Variant")


def _check_modalities(name: str, config: Config, without: Config) -> None:
    lacking = [modality for modality in config["modalities"] if modality not in without["modalities"]]
    if lacking:
        raise SettingError(
            f"Variant {name!r} needs the modality {lacking[0]!r}, which {config['dataset']} lacks (modalities: "
            f"{without['modalities']}). Leave the variant out, or set modalities for all."
        )
