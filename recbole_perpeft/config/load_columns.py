"""Which columns of which atomic files are loaded where ``load_col`` does not say."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from recbole.utils import ModelType

from recbole_perpeft.config.atomic_files import check_header
from recbole_perpeft.utils.errors import DataError, SettingError

_SUFFIXES = ("inter", "user", "item")
_FILES = (*_SUFFIXES, "kg", "link", "net")
_BY_COLUMN = {
    "val_interval": "{rating: '[3,inf)'}", "threshold": "{rating: 4}", "seq_len": "{tags: 10}",
    "discretization": "{age: {method: ED, bucket: 5}}",
}  # fmt: skip
_LISTS_OF_COLUMNS = ("normalize_field", "numerical_features")


def columns_to_load(config) -> dict[str, list[str] | str]:
    """User, item and time of the purchases, what the kind of model needs, and the columns that settings name.

    Columns of ``.item`` and ``.user`` files change which purchases are kept, so they are loaded only if named.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config` without a ``load_col`` of its own, with ``data_path`` complete.

    Returns
    -------
    dict
        As ``load_col``: suffix of the atomic file to names of columns, or to ``"*"`` for all.

    Raises
    ------
    SettingError
        If a setting that was given names a column that no file has.
    """
    user, item, time = (config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"))
    ids = {"inter": [user, item], "user": [user], "item": [item]}
    loaded: dict[str, list[str] | str] = {"inter": [user, item]}
    headers, errors = _headers(config)
    if needs_time(config) or time in headers.get("inter", [time]):
        loaded["inter"].append(time)
    if config["unbought_items"]:
        loaded["item"] = [item]
    if config.internal_config_dict.get("selected_features"):  # a backbone with item features
        loaded["item"] = [item, *config["selected_features"]]
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE or config["model"] in ("GRU4RecKG", "KSR"):
        loaded["kg"] = [config[key] for key in ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD")]
        loaded["link"] = [item, config["ENTITY_ID_FIELD"]]
    for suffix in config["additional_feat_suffix"] or ():
        loaded[suffix] = "*"
    for key, names in named_columns(config).items():
        for name in names:
            suffix = next((suffix for suffix in _SUFFIXES if name in headers.get(suffix, ())), None)
            if suffix:
                columns = loaded.setdefault(suffix, list(ids[suffix]))
                if name not in columns:
                    columns.append(name)
            elif key in config.external_config_dict and not any(name in columns for columns in loaded.values()):
                if errors or not headers:
                    continue  # which is reported when the data are loaded
                raise SettingError(f"{key} names the column {name!r}, which no file has. {_seen(headers)}")
    for suffix in config["unload_col"] or ():
        loaded[suffix] = "*"  # RecBole takes all columns but those of unload_col
    return loaded


def with_item_ids(config) -> dict[str, list[str] | str]:
    """A ``load_col`` that was given, with the ids of the ``.item`` file, which put its products in the catalogue."""
    item, given = config["ITEM_ID_FIELD"], config["load_col"] or {"inter": "*"}
    columns = given.get("item") or []
    return {**given, "item": columns if columns == "*" or item in columns else [item, *columns]}


def check_columns_settings(config) -> None:
    """Refuse a text where columns are to be named by a mapping or a list, which would be read letter by letter.

    Raises
    ------
    SettingError
        With an example.
    """
    for key, example in _BY_COLUMN.items():
        if config[key] and not isinstance(config[key], Mapping):
            raise SettingError(
                f"{key}: {config[key]!r} is not possible: write the column and its value, as in {example}."
            )
    for key in _LISTS_OF_COLUMNS:
        if config[key] and not isinstance(config[key], list | tuple):
            raise SettingError(f"{key}: {config[key]!r} is not possible: write a list of columns, as in [rating].")


def check_load_col(config) -> None:
    """Refuse a ``load_col`` of a file that nobody reads, or without the columns that say who bought what.

    Raises
    ------
    SettingError
        Names the file or the column.
    """
    given, others = config["load_col"], config["additional_feat_suffix"] or ()
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise SettingError(f"load_col: {given!r} is not possible: write {{inter: [user_id, item_id, …]}}.")
    for suffix in given:
        if suffix not in (*_FILES, *([others] if isinstance(others, str) else others)):
            raise SettingError.unknown("file in load_col", suffix, _FILES)
    columns = given.get("inter", "*")
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        if columns != "*" and config[key] not in (columns or ()):
            raise SettingError(
                f"load_col: inter: {columns} leaves out {config[key]!r} ({key}), which every model reads: add it, or "
                "leave load_col out."
            )


def check_named_columns(config) -> None:
    """Refuse a ``load_col`` that leaves out a column which another setting names.

    Raises
    ------
    SettingError
        Names both settings.
    """
    lists = (config["load_col"] or {"inter": "*"}).values()
    if config["additional_feat_suffix"] or any(columns == "*" for columns in lists):
        return
    for key, names in named_columns(config).items():
        for name in names:
            if key in config.external_config_dict and not any(name in columns for columns in lists):
                raise SettingError(
                    f"{key} names the column {name!r}, which load_col: {config['load_col']} leaves out: add it there, "
                    "or leave load_col out."
                )


def needs_time(config) -> bool:
    """Whether the order of purchases in time decides anything: the split of pre-split or shuffled data does not."""
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    return sequential or (config["benchmark_filename"] is None and config["eval_args"].get("order") == "TO")


def named_columns(config) -> dict[str, list[str]]:
    """The names of columns that settings hold, by setting."""
    named = {key: list(config[key] or ()) for key in (*_BY_COLUMN, *_LISTS_OF_COLUMNS)}
    named["preload_weight"] = [name for pair in (config["preload_weight"] or {}).items() for name in pair]
    named["unused_col"] = _flat((config["unused_col"] or {}).values())
    for alias in ("user_id", "item_id"):
        named[f"alias_of_{alias}"] = list(config[f"alias_of_{alias}"] or ())
    if config["inter_matrix_type"] == "rating":
        named["RATING_FIELD"] = [config["RATING_FIELD"]]
    if reads_labels(config) and not config["threshold"]:
        named["LABEL_FIELD"] = [config["LABEL_FIELD"]]
    return named


def reads_labels(config) -> bool:
    """Whether the run reads a purchase's label: in evaluation, or in training without sampled negatives."""
    if "labeled" in config["eval_args"]["mode"].values():
        return True
    learns_labels = config["MODEL_TYPE"] in (ModelType.CONTEXT, ModelType.DECISIONTREE)
    return learns_labels and not samples_negatives(config)


def check_labels(config) -> None:
    """Refuse a run that reads labels and has none.

    Parameters
    ----------
    config
        A :class:`~recbole_perpeft.config.Config` whose ``load_col`` is complete.

    Raises
    ------
    SettingError
        Says which column or setting would give some.
    """
    loaded = (config["load_col"] or {"inter": "*"}).get("inter", ())
    if reads_labels(config) and not config["threshold"] and loaded != "*" and config["LABEL_FIELD"] not in loaded:
        raise SettingError(no_labels(config))


def no_labels(config) -> str:
    """What to say where labels are read and there are none."""
    return (
        f"{config['model']} needs labels, to learn from or to be evaluated on, and {config['dataset']} has no column "
        f"{config['LABEL_FIELD']!r} (LABEL_FIELD). Set threshold, as in {{rating: 4}}; or, if all purchases are "
        "alike, train_neg_sample_args: {'distribution': 'uniform', 'sample_num': 1} and mode: full in eval_args."
    )


def samples_negatives(config) -> bool:
    """Whether RecBole draws negatives for training."""
    args = config["train_neg_sample_args"]
    return isinstance(args, dict) and args.get("distribution") != "none"


def _headers(config) -> tuple[dict[str, list[str]], list[DataError]]:
    """Names of the columns of each file that is there (of the first of pre-split purchases), and what files lack."""
    folder, parts = Path(config["data_path"]), config["benchmark_filename"]
    files = {suffix: folder / f"{config['dataset']}.{suffix}" for suffix in _SUFFIXES}
    if isinstance(parts, list) and parts:
        files["inter"] = folder / f"{config['dataset']}.{parts[0]}.inter"
    headers, errors = {}, []
    for suffix, file in files.items():
        if file.is_file():
            try:
                headers[suffix] = list(check_header(file, config))
            except DataError as error:
                errors.append(error)
    return headers, errors


def _seen(headers: dict[str, list[str]]) -> str:
    return " ".join(f"The .{suffix} file has {', '.join(names)}." for suffix, names in headers.items())


def _flat(lists: Iterable[Iterable[str]]) -> list[str]:
    return [name for names in lists for name in names]
