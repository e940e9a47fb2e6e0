"""RecBole's ``create_dataset`` and ``data_preparation``, with history masking and user-wise batches."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recbole import data as recbole_data
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import ModelType

from recbole_perpeft.cold_items import hold_out
from recbole_perpeft.config import Config
from recbole_perpeft.errors import DataError, SettingError
from recbole_perpeft.ranking import FullRankingLoader
from recbole_perpeft.sampling import GeneralBatchLoader, UserBatchLoader


class _UserSampleMixin:
    """Keeps a seeded sample of the users (``user_sample``) after RecBole's own filters."""

    def _data_filtering(self):
        super()._data_filtering()
        wanted = self.config["user_sample"]
        users = np.sort(self.inter_feat[self.uid_field].unique())
        if wanted is None or wanted >= len(users):
            return
        kept = _draw(users, wanted, self.config["seed"])
        self.inter_feat = self.inter_feat[self.inter_feat[self.uid_field].isin(set(kept))].reset_index(drop=True)
        self.logger.info(f"user_sample: kept {wanted} of {len(users)} users, drawn with seed {self.config['seed']}.")


def _draw(users: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(users, size=wanted, replace=False)


class GeneralDataset(_UserSampleMixin, Dataset):
    """RecBole's Dataset with ``user_sample``."""

    def training_sequences(self) -> dict[int, np.ndarray]:
        """User id to his training purchases, oldest first; to be asked of the training part."""
        users, items = self.inter_feat[self.uid_field].numpy(), self.inter_feat[self.iid_field].numpy()
        order = np.lexsort((self.inter_feat[self.time_field].numpy(), users))
        there, starts = np.unique(users[order], return_index=True)
        return dict(zip(there.tolist(), np.split(items[order], starts[1:]), strict=True))

    @property
    def sequences(self) -> dict[int, np.ndarray]:
        """As :meth:`training_sequences`."""
        return self.training_sequences()

    def cold_ids(self) -> np.ndarray:
        """None: cold items are for sequential recommenders."""
        return np.empty(0, dtype=np.int64)


class SequenceDataset(_UserSampleMixin, SequentialDataset):
    """RecBole's SequentialDataset that remembers every user's purchases in order.

    Attributes
    ----------
    sequences : dict[int, numpy.ndarray]
        User id to his item ids, oldest first, held-out ones included. RecBole's own prefixes are cut to
        ``MAX_ITEM_LIST_LENGTH`` items, too short a memory for masking a history.
    """

    cold_tokens: np.ndarray | None = None

    def _data_filtering(self):
        super()._data_filtering()
        share = self.config["cold_items"]
        if not share:
            return
        fields = self.uid_field, self.iid_field, self.time_field
        users = self.inter_feat[self.uid_field].nunique()
        self.inter_feat, self.cold_tokens = hold_out(self.inter_feat, *fields, share, self.config["seed"])
        self.logger.info(
            f"cold_items: {len(self.cold_tokens)} items are held out of training, drawn with seed "
            f"{self.config['seed']}; {self.inter_feat[self.uid_field].nunique()} of {users} users are left."
        )

    def cold_ids(self) -> np.ndarray:
        """Ids of the cold items (``cold_items``), ``[n]``; of those that some user bought last."""
        known = self.field2token_id[self.iid_field]
        tokens = () if self.cold_tokens is None else self.cold_tokens
        return np.array([known[str(token)] for token in tokens if str(token) in known], dtype=np.int64)

    def data_augmentation(self):
        self.sort(by=[self.uid_field, self.time_field], ascending=True)
        users, items = self.inter_feat[self.uid_field].numpy(), self.inter_feat[self.iid_field].numpy()
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        self.sequences = dict(zip(users[starts].tolist(), np.split(items, starts[1:]), strict=True))
        self._aug_presets()
        self.inter_feat = self._prefixes(starts)

    def _prefixes(self, starts: np.ndarray) -> Interaction:
        """What RecBole's ``data_augmentation`` gives, without its loops over rows (seconds on large data).

        Every purchase but a user's first is the target of one row, whose lists hold what he had bought before.

        Parameters
        ----------
        starts
            First row of each user in ``inter_feat``, which is sorted by user and time.
        """
        n = len(self.inter_feat)
        first_of_user = np.repeat(starts, np.diff(np.r_[starts, n]))  # [n]
        targets = np.setdiff1d(np.arange(n), starts)  # [rows]
        begins = np.maximum(first_of_user[targets], targets - self.max_item_list_len)  # [rows]
        lengths = torch.from_numpy(targets - begins)
        places = torch.from_numpy(begins[:, None] + np.arange(self.max_item_list_len))  # [rows, positions]
        within = torch.arange(self.max_item_list_len) < lengths[:, None]  # [rows, positions]
        rows = self.inter_feat[targets]
        lists = {self.item_list_length_field: lengths}
        for field in self.inter_feat:
            if field != self.uid_field:
                values = self.inter_feat[field][places.clamp(max=n - 1)]  # [rows, positions, ...]
                lists[getattr(self, f"{field}_list_field")] = torch.where(
                    within.view(*within.shape, *[1] * (values.dim() - 2)), values, torch.zeros_like(values)
                )
        rows.update(Interaction(lists))
        return rows

    def training_sequences(self) -> dict[int, np.ndarray]:
        """User id to his training purchases, oldest first; to be asked of the training part.

        A user's prefixes are split in time order and every one has one target, so the training purchases are the
        first item and one more per training prefix.
        """
        users, counts = np.unique(self.inter_feat[self.uid_field].numpy(), return_counts=True)
        return {user: self.sequences[user][: n + 1] for user, n in zip(users.tolist(), counts.tolist(), strict=True)}


def create_dataset(config: Config) -> Dataset:
    """The data set of ``config``, filtered.

    Raises
    ------
    DataError
        If the folder or the ``.inter`` file is missing, a column is absent, nothing is left after filtering, repeat
        purchases are kept while the history is masked, or a sequential model gets pre-split files.
    """
    _check_files(config)
    if config["cold_items"] and config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        raise SettingError(
            f"cold_items: {config['cold_items']} is not possible with {config['model']}: only sequential recommenders "
            "are tested on cold items. Set it to ~."
        )
    classes = {ModelType.SEQUENTIAL: SequenceDataset, ModelType.GENERAL: GeneralDataset}
    special = hasattr(recbole_data.dataset, config["model"] + "Dataset")
    if special or config["MODEL_TYPE"] not in classes:
        return recbole_data.create_dataset(config)
    try:
        dataset = classes[config["MODEL_TYPE"]](config)
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"Data set {config['dataset']} in {config['data_path']} cannot be used: {error} Check its .inter file and "
            f"the filters rm_dup_inter: {config['rm_dup_inter']}, user_inter_num_interval: "
            f"{config['user_inter_num_interval']}, item_inter_num_interval: {config['item_inter_num_interval']}."
        ) from error
    _refuse_masked_repeats(config, dataset)
    return dataset


def data_preparation(config: Config, dataset: Dataset) -> tuple:
    """Split ``dataset`` and make the train, validation and test loaders.

    Returns
    -------
    tuple
        ``(train_data, valid_data, test_data)``. Models of this package train on user-wise batches
        (:class:`~recbole_perpeft.sampling.UserBatchLoader`); RecBole's own on RecBole's loaders.
    """
    if not isinstance(dataset, SequenceDataset | GeneralDataset):
        return recbole_data.data_preparation(config, dataset)
    train, valid, test = dataset.build()
    candidates = None
    if config["cold_items"]:
        candidates = dataset.cold_ids()
        test = test.copy(test.inter_feat[np.flatnonzero(np.isin(test.inter_feat[test.iid_field].numpy(), candidates))])
    for name, part in (("training", train), ("validation", valid), ("test", test)):
        if len(part) == 0:
            raise DataError(
                f"Data set {config['dataset']} has no {name} purchases under eval_args: {config['eval_args']}."
            )
    samplers = create_samplers(config, dataset, [train, valid, test])
    if hasattr(config.model_class, "backbone_name"):
        train_data = (UserBatchLoader if isinstance(train, SequenceDataset) else GeneralBatchLoader)(config, train)
    else:
        train_data = get_dataloader(config, "train")(config, train, samplers[0], shuffle=config["shuffle"])
    valid_data = _evaluation_loader(config, "valid", _sample_of_users(config, valid), samplers[1])
    test_data = _evaluation_loader(config, "test", test, samplers[2])
    if candidates is not None:
        test_data.rank_only(candidates)
    return train_data, valid_data, test_data


def _sample_of_users(config: Config, valid: Dataset) -> Dataset:
    """The validation part, with no more users than ``valid_user_sample``."""
    of_rows = valid.inter_feat[valid.uid_field].numpy()
    users, wanted = np.unique(of_rows), config["valid_user_sample"]
    if wanted is None or wanted >= len(users):
        return valid
    kept = np.isin(of_rows, _draw(users, wanted, config["seed"]))
    valid.logger.info(
        f"valid_user_sample: validating on {wanted} of {len(users)} users, drawn with seed {config['seed']}."
    )
    return valid.copy(valid.inter_feat[np.flatnonzero(kept)])


def _evaluation_loader(config: Config, phase: str, part: Dataset, sampler):
    loader = get_dataloader(config, phase)
    return (FullRankingLoader if loader is FullSortEvalDataLoader else loader)(config, part, sampler, shuffle=False)


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
    if config["benchmark_filename"] is None:
        file = folder / f"{config['dataset']}.inter"
        if not file.is_file():
            raise DataError(f"{file} does not exist: a data set needs its purchases in an atomic .inter file.")
        times = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")
        _check_columns(config, file, {key: [config[key]] for key in times})
    if config["selected_features"] and "item" in (config["load_col"] or {}):
        _check_columns(config, folder / f"{config['dataset']}.item", {"selected_features": config["selected_features"]})


def _check_columns(config: Config, file: Path, wanted: dict[str, list[str]]) -> None:
    """Refuse a file that lacks a column; ``wanted`` has the columns of each setting."""
    try:
        with open(file, encoding=config["encoding"] or "utf-8") as handle:
            header = handle.readline().rstrip("\r\n")
    except OSError as error:
        raise DataError(f"{file} cannot be read, but {', '.join(wanted)} needs it: {error}") from error
    columns = [field.split(":")[0] for field in header.split(config["field_separator"])]
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
