"""RecBole's ``create_dataset`` and ``data_preparation`` for every model, with history masking and user-wise batches."""

from pathlib import Path

import numpy as np
from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import cat_interactions
from recbole.data.utils import get_dataloader
from recbole.sampler import KGSampler
from recbole.utils import ModelType

from recbole_perpeft.config import Config
from recbole_perpeft.config.atomic_files import check_header, read_header
from recbole_perpeft.config.load_columns import check_named_columns, needs_time, no_labels, reads_labels
from recbole_perpeft.config.registry import is_perpeft
from recbole_perpeft.data.dataloader import GeneralBatchLoader, UserBatchLoader
from recbole_perpeft.data.dataset import GeneralDataset, SequenceDataset, SequencePurchases, dataset_class
from recbole_perpeft.data.eval_dataloader import FullRankingLoader
from recbole_perpeft.data.evaluation_samplers import make_samplers
from recbole_perpeft.data.sampled_ranking import SampledRankingLoader, sampled_loader
from recbole_perpeft.utils.errors import DataError, PerPEFTError, SettingError

__all__ = ["GeneralDataset", "SequenceDataset", "check_folder", "create_dataset", "data_preparation"]


def create_dataset(config: Config) -> Dataset:
    """The data set of ``config``, filtered.

    Nothing is read but the atomic files: RecBole's saved data sets do not hold all settings that they were made with.

    Raises
    ------
    SettingError
        If settings name columns that are not loaded, or cold items are asked of a model that is not sequential.
    DataError
        If the folder or the ``.inter`` file is missing, a file cannot be read, a column is absent, nothing is left
        after filtering, repeat purchases are kept while the history is masked, labels are missing, or a sequential
        model gets pre-split files.
    """
    _check_files(config)
    check_named_columns(config)
    if config["cold_items"] and config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        raise SettingError(
            f"cold_items: {config['cold_items']} is not possible with {config['model']}: only sequential recommenders "
            "are tested on cold items. Set it to ~."
        )
    try:
        dataset = dataset_class(config["model"], config["MODEL_TYPE"])(config)
    except PerPEFTError:
        raise
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise DataError(
            f"Data set {config['dataset']} in {config['data_path']} cannot be used: {error} Check its files and "
            f"the filters rm_dup_inter: {config['rm_dup_inter']}, user_inter_num_interval: "
            f"{config['user_inter_num_interval']}, item_inter_num_interval: {config['item_inter_num_interval']}, "
            f"val_interval: {config['val_interval']}."
        ) from error
    if needs_time(config) and dataset.time_field not in dataset.inter_feat:
        raise DataError(
            f"{dataset.time_field!r} (TIME_FIELD) is not loaded (load_col: {config['load_col']}, unload_col: "
            f"{config['unload_col']}), but the order of purchases is by time: load it, or leave these settings out."
        )
    _refuse_masked_repeats(config, dataset)
    if reads_labels(config) and dataset.label_field not in dataset.inter_feat:
        raise DataError(no_labels(config))
    return dataset


def data_preparation(config: Config, dataset: Dataset) -> tuple:
    """Split ``dataset`` and make the train, validation and test loaders.

    Returns
    -------
    tuple
        ``(train_data, valid_data, test_data)``. Models of this package train on user-wise batches
        (:class:`~recbole_perpeft.data.dataloader.UserBatchLoader`); RecBole's own on RecBole's loaders. With
        ``grow_history`` the test loader of a general model has a data set ``known``, the purchases of training and
        validation, which the model knows in the test.

    Raises
    ------
    DataError
        If a part is empty, or ``eval_args`` cannot be used.
    """
    try:
        train, valid, test = dataset.build()
    except (ValueError, NotImplementedError, AssertionError) as error:
        raise DataError(
            f"Data set {config['dataset']} cannot be split by eval_args: {config['eval_args']}: {error}"
        ) from error
    candidates = None
    if config["cold_items"]:
        candidates = dataset.cold_ids()
        test = test.copy(test.inter_feat[np.flatnonzero(np.isin(test.inter_feat[test.iid_field].numpy(), candidates))])
    for name, part in (("training", train), ("validation", valid), ("test", test)):
        if len(part) == 0:
            raise DataError(
                f"Data set {config['dataset']} has no {name} purchases under eval_args: {config['eval_args']}."
            )
    samplers = make_samplers(config, dataset, [train, valid, test])
    train_data = _training_loader(config, dataset, train, samplers[0])
    valid_data = _evaluation_loader(config, "valid", valid, samplers[1])
    test_data = _evaluation_loader(config, "test", test, samplers[2])
    if candidates is not None:
        test_data.rank_only(candidates)
    if config["grow_history"] and config["MODEL_TYPE"] == ModelType.GENERAL:
        test_data.known = train.copy(cat_interactions([train.inter_feat, valid.inter_feat]))
    return train_data, valid_data, test_data


def _training_loader(config: Config, dataset: Dataset, train: Dataset, sampler):
    if is_perpeft(config.model_class):
        return (UserBatchLoader if isinstance(train, SequencePurchases) else GeneralBatchLoader)(config, train)
    loader = get_dataloader(config, "train")
    if config["MODEL_TYPE"] != ModelType.KNOWLEDGE:
        return loader(config, train, sampler, shuffle=config["shuffle"])
    args = config["train_neg_sample_args"]
    return loader(config, train, sampler, KGSampler(dataset, args["distribution"], args["alpha"]), shuffle=True)


def _evaluation_loader(config: Config, phase: str, part: Dataset, sampler):
    loader = get_dataloader(config, phase)
    is_sampled = isinstance(config[f"{phase}_neg_sample_args"]["sample_num"], int)
    if loader is NegSampleEvalDataLoader:
        loader = sampled_loader(config, part) if is_sampled else SampledRankingLoader
    elif loader is FullSortEvalDataLoader:
        loader = FullRankingLoader
    return loader(config, part, sampler, shuffle=False)


def check_folder(config: Config) -> Path:
    """The data set's folder.

    Raises
    ------
    DataError
        If it does not exist.
    """
    folder = Path(config["data_path"])
    if not folder.is_dir():
        files = folder.parent.glob("*/*.inter")
        there = sorted({file.parent.name for file in files if file.name.startswith(f"{file.parent.name}.")})
        found = f"Data sets there: {', '.join(there)}." if there else "There is no data set there."
        raise DataError(
            f"Data set folder {folder} does not exist. {found} Put atomic files there, or set data_path to the folder "
            f"that holds {config['dataset']}/{config['dataset']}.inter."
        )
    return folder


def _check_files(config: Config) -> None:
    folder = check_folder(config)
    if config["benchmark_filename"] and config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        raise DataError(
            f"benchmark_filename: {config['benchmark_filename']} splits {config['dataset']} beforehand, so no "
            "user's whole sequence is known, which masking and user-wise batches need. Put all purchases into one "
            ".inter file."
        )
    parts = config["benchmark_filename"]
    names = [f"{config['dataset']}.inter"] if parts is None else [f"{config['dataset']}.{part}.inter" for part in parts]
    for file in (folder / name for name in names):
        if not file.is_file():
            raise DataError(f"{file} does not exist: a data set needs its purchases in an atomic .inter file.")
        check_header(file, config)
        keys = ("USER_ID_FIELD", "ITEM_ID_FIELD", *(["TIME_FIELD"] if needs_time(config) else []))
        _check_columns(config, file, {key: [config[key]] for key in keys})
    if config["unbought_items"]:
        file = folder / f"{config['dataset']}.item"
        if not file.is_file():
            raise DataError(
                f"{file} does not exist, but unbought_items: True takes the catalogue from it. Put it there, or set "
                "unbought_items: False."
            )
        _check_columns(config, file, {"ITEM_ID_FIELD": [config["ITEM_ID_FIELD"]]})
    if config["selected_features"] and "item" in (config["load_col"] or {}):
        _check_columns(config, folder / f"{config['dataset']}.item", {"selected_features": config["selected_features"]})


def _check_columns(config: Config, file: Path, wanted: dict[str, list[str]]) -> None:
    """Refuse a file that lacks a column; ``wanted`` has the columns of each setting."""
    columns = read_header(file, config)
    for key, names in wanted.items():
        missing = next((name for name in names if name not in columns), None)
        if missing:
            raise DataError(
                f"{file} has no column {missing!r} ({key}); its header has {', '.join(columns)}. "
                f"Rename the column or set {key}."
            )


def _refuse_masked_repeats(config: Config, dataset: Dataset) -> None:
    if not config["mask_history"]:
        return
    repeats = int(dataset.inter_feat.duplicated([dataset.uid_field, dataset.iid_field]).sum())
    if repeats:
        raise DataError(
            f"mask_history: True with {repeats} repeat purchases in {config['dataset']} would give repeated targets "
            "away: all their rivals from the history are masked. Set rm_dup_inter: first (keep the first purchase of "
            "an item), or mask_history: False."
        )
