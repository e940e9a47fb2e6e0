"""The data of a bundle: items, users and their purchases, as files and as RecBole's data sets."""

import csv
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_perpeft.config import Config
from recbole_perpeft.config.atomic_files import read_header
from recbole_perpeft.content.item_file import read_item_texts
from recbole_perpeft.data.dataset import SequencePurchases, dataset_class
from recbole_perpeft.data.preparation import create_dataset
from recbole_perpeft.serving.bundle_files import Bundle, write_array, write_json, write_tensors
from recbole_perpeft.serving.catalogue import Catalogue, catalogue_of
from recbole_perpeft.utils.errors import BundleError

if TYPE_CHECKING:  # a bundle is served without pandas
    import pandas as pd

ITEMS, USERS, PURCHASES = "items.tsv", "users/ids.json", "purchases"
_FIELDS, _COLUMNS = "fields.json", "columns.safetensors"
_PARTS = ("training", "validation", "test")
_FEATS = ("user_feat", "item_feat")
_SOURCES = {source.value: source for source in FeatureSource}


def write_data(config: Config, parts: Sequence[Dataset], folder: Path) -> dict[str, int]:
    """Write what a model, and whoever asks it, needs to know of the data.

    Parameters
    ----------
    config
        The settings; the data set is read once more, for the times as the file has them.
    parts
        Training, validation and test part.
    folder
        Where the files go.

    Returns
    -------
    dict
        Numbers of users, items and purchases.

    Raises
    ------
    BundleError
        If the data set has what a bundle has no place for.
    """
    whole = create_dataset(config)
    if whole._preloaded_weight or set(whole.feat_name_list) - {"inter_feat", *_FEATS}:
        raise BundleError(
            f"additional_feat_suffix: {config['additional_feat_suffix']} and preload_weight have no place in a bundle. "
            "Export a model that does without them."
        )
    frame = whole.inter_feat
    frame = frame.iloc[np.argsort(frame[whole.uid_field].to_numpy(), kind="stable")]  # each user's, oldest first
    rows = whole._dataframe_to_interaction(frame)
    ids = {"users": whole.uid_field, "items": whole.iid_field}
    for name, field in ids.items():
        write_array(folder / PURCHASES / f"{name}.npy", rows[field].numpy().astype(np.int32))
    if whole.time_field in frame:
        write_array(folder / PURCHASES / "times.npy", frame[whole.time_field].to_numpy(np.float64))
    for name, numbers in zip(_PARTS, _numbers(rows, parts), strict=True):
        write_array(folder / PURCHASES / f"{name}.npy", numbers)
    _write_columns(whole, rows, parts[0], folder)
    write_json(folder / USERS, whole.field2id_token[whole.uid_field].tolist())
    _write_items(config, whole, folder / ITEMS)
    return {"users": whole.user_num - 1, "items": whole.item_num - 1, "purchases": len(frame)}


def _numbers(rows: Interaction, parts: Sequence[Dataset]) -> list[np.ndarray]:
    """Which of all purchases, ``rows``, each row of each part is (the target of, in sequential models' data)."""
    uid, columns = parts[0].uid_field, rows.columns
    all_of_them, of_parts = _table([rows], columns), _table([part.inter_feat for part in parts], columns)
    fields = list(all_of_them)
    if isinstance(parts[0], SequencePurchases):  # in which a user's first purchase is no target
        length = parts[0].item_list_length_field
        all_of_them[length] = all_of_them.groupby(uid).cumcount().clip(upper=parts[0].max_item_list_len)
        of_parts[length] = np.concatenate([part.inter_feat[length] for part in parts])
        fields = [*fields, length]
    for table in (all_of_them, of_parts):  # purchases that are alike in all of this stand for each other
        table["alike"] = table.groupby(fields, dropna=False).cumcount()
    all_of_them["number"] = np.arange(len(all_of_them))
    numbers = of_parts.merge(all_of_them, on=[*fields, "alike"], how="left")["number"]
    if numbers.isna().any():
        raise BundleError("The parts of the data set hold purchases that it has not as a whole: export it anew.")
    return np.split(numbers.to_numpy(np.int64), np.cumsum([len(part) for part in parts])[:-1])


def _table(feats: Sequence[Interaction], columns: Sequence[str]) -> "pd.DataFrame":
    """Rows of ``feats`` one below the other; a sequence has a column for each of its positions."""
    import pandas as pd  # late: only an export needs it

    table = {}
    for field in columns:
        values = np.concatenate([feat[field].flatten(1) if feat[field].dim() > 1 else feat[field] for feat in feats])
        table |= {field: values} if values.ndim == 1 else {f"{field}/{n}": some for n, some in enumerate(values.T)}
    return pd.DataFrame(table)


def _write_columns(whole: Dataset, rows: Interaction, part: Dataset, folder: Path) -> None:
    """What there is beside the ids of users and items and the times; ``part`` has it as tensors."""
    ids, columns = (whole.uid_field, whole.iid_field), {}
    known = {"inter_feat": rows} | {name: getattr(part, name) for name in _FEATS}
    for feat, values in known.items():
        for field in () if values is None else values.columns:
            if feat != "inter_feat" or field not in (*ids, whole.time_field):
                columns[f"{feat}/{field}"] = values[field]
    write_tensors(folder / _COLUMNS, columns)
    described = {
        field: {
            "type": kind.value,
            "source": getattr(whole.field2source[field], "value", whole.field2source[field]),
            "length": whole.field2seqlen.get(field),
            "buckets": whole.field2bucketnum.get(field),
            "tokens": whole.field2id_token[field].tolist()
            if field in whole.field2id_token and field not in ids
            else None,
        }
        for field, kind in whole.field2type.items()
    }
    order = {feat: None if values is None else list(values.columns) for feat, values in known.items()}
    write_json(folder / _FIELDS, {"fields": described, "columns": order})


def _write_items(config: Config, whole: Dataset, file: Path) -> None:
    """All items in the order of their numbers, with the columns of the ``.item`` file, each in quotation marks."""
    catalogue, item = catalogue_of(config, whole), whole.iid_field
    source = Path(config["data_path"]) / f"{config['dataset']}.item"
    types = read_header(source, config) if catalogue.columns else {}
    names = [item, *catalogue.columns]
    columns = [catalogue.tokens, *(catalogue.column(name) for name in catalogue.columns)]
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow([f"{name}:{types.get(name) or 'token'}" for name in names])
        writer.writerows(list(zip(*columns, strict=True))[1:])
    read = read_item_texts(file, item, names)
    for name, values in zip(names, columns, strict=True):
        lost = next(
            (str(i) for i, value in zip(columns[0][1:], values[1:], strict=True) if read[i][name] != value), None
        )
        if lost is not None:
            raise BundleError(f"{source}: {name} of item {lost!r} cannot be written so that it is read back. Mend it.")


def catalogue_in(bundle: Bundle) -> Catalogue:
    """The items of a bundle with the columns of their file."""
    file, item = bundle.path(ITEMS), bundle.facts["settings"]["ITEM_ID_FIELD"]
    with open(file, encoding="utf-8", newline="") as handle:
        header = next(csv.reader(handle, delimiter="\t"))
    columns = [name for name in (word.rpartition(":")[0] for word in header) if name != item]
    tokens = ["[PAD]", *read_item_texts(file, item, [])]
    return Catalogue(tokens, columns, lambda names: read_item_texts(file, item, names))


def read_data(config: Config, bundle: Bundle) -> list[Dataset]:
    """Training, validation and test part as they were when the bundle was written; no other file is read.

    Rows of sequential models have no lists yet, which are most of their memory: ``with_lists`` gives some rows theirs,
    ``make_lists`` all.

    Raises
    ------
    BundleError
        If the files do not go together.
    """
    try:
        return _parts(config, bundle)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            f"The data files of {bundle.folder} do not go together ({error!r}). Export it anew."
        ) from error


def _parts(config: Config, bundle: Bundle) -> list[Dataset]:
    whole = _empty(config)
    known, columns = bundle.json(_FIELDS), bundle.tensors(_COLUMNS)
    tokens = {whole.uid_field: bundle.json(USERS), whole.iid_field: catalogue_in(bundle).tokens.tolist()}
    for field, facts in known["fields"].items():
        source, length = facts["source"], facts["length"]
        whole.field2type[field] = FeatureType(facts["type"])
        whole.field2source[field] = _SOURCES.get(source, source)
        whole.field2seqlen[field] = tuple(length) if isinstance(length, list) else length
        if facts["buckets"] is not None:
            whole.field2bucketnum[field] = facts["buckets"]
        if (names := tokens.get(field, facts["tokens"])) is not None:
            whole.field2id_token[field] = np.array(names)
            whole.field2token_id[field] = {name: number for number, name in enumerate(names)}
    for name, field in (("users", whole.uid_field), ("items", whole.iid_field)):
        numbers = bundle.array(f"{PURCHASES}/{name}.npy").astype(np.int64)
        _check_range(bundle, name, numbers, 1, len(tokens[field]))
        columns[f"inter_feat/{field}"] = torch.from_numpy(numbers)
    if whole.time_field in known["columns"]["inter_feat"]:
        times = bundle.array(f"{PURCHASES}/times.npy").astype(np.float32)  # as RecBole has them
        columns[f"inter_feat/{whole.time_field}"] = torch.from_numpy(times)
    for feat, fields in known["columns"].items():
        there = fields is not None
        setattr(whole, feat, Interaction({field: columns[f"{feat}/{field}"] for field in fields}) if there else None)
        if there:
            whole.feat_name_list.append(feat)
    numbers = [np.array(bundle.array(f"{PURCHASES}/{name}.npy")) for name in _PARTS]
    for name, some in zip(_PARTS, numbers, strict=True):
        _check_range(bundle, name, some, 0, len(whole.inter_feat))
    if isinstance(whole, SequencePurchases):
        users = whole.inter_feat[whole.uid_field].numpy()
        targets = np.flatnonzero(np.r_[False, users[1:] == users[:-1]])
        whole.make_rows()
        numbers = [np.searchsorted(targets, some) for some in numbers]
    return [whole.copy(whole.inter_feat[torch.from_numpy(some)]) for some in numbers]


def _check_range(bundle: Bundle, name: str, numbers: np.ndarray, least: int, end: int) -> None:
    if numbers.ndim != 1 or (numbers < least).any() or (numbers >= end).any():
        raise BundleError(f"{bundle.folder / PURCHASES / name}.npy has numbers outside of {least} to {end - 1}.")


def _empty(config: Config) -> Dataset:
    """A data set of RecBole's, as before it reads its files."""
    kind = dataset_class(config["model"], config["MODEL_TYPE"])
    whole = kind.__new__(kind)
    whole.config, whole.dataset_name, whole.logger = config, config["dataset"], getLogger()
    if isinstance(whole, SequencePurchases):
        whole.max_item_list_len = config["MAX_ITEM_LIST_LENGTH"]
        whole.item_list_length_field = config["ITEM_LIST_LENGTH_FIELD"]
    whole._get_preset()
    whole._get_field_from_config()
    whole.feat_name_list = []
    return whole
