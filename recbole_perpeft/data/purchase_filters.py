"""What every data set here adds to RecBole's: one order of purchases, filters that say what they took, samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from recbole.utils.enum_type import FeatureType

from recbole_perpeft.config.atomic_files import check_header, check_lines, check_times, unreadable
from recbole_perpeft.config.data_settings import check_interval
from recbole_perpeft.utils.errors import SettingError

if TYPE_CHECKING:  # a bundle is served without pandas
    import pandas as pd


class PurchaseFilters:
    """A mixin, to stand before one of RecBole's Dataset classes.

    Purchases are sorted once, stably, by the time as it is in the file (float64), so that purchases of the same time
    keep the order of the file on every processor. RecBole sorts by them twice: with pandas' unstable sort, and, stably,
    by float32, which keeps the order within a user once they are sorted.

    Attributes
    ----------
    item_encoder : torch.nn.Module or None
        What models take for their item encoder; None: they make one, of the catalogue's pictures and titles.
    """

    item_encoder = None

    def _load_feat(self, filepath, source):
        load_col, _ = self._get_load_and_unload_col(source)
        if load_col == set():
            return None
        check_header(Path(filepath), self.config)
        check_lines(Path(filepath), self.config)
        try:
            feat = super()._load_feat(filepath, source)
        except ValueError as error:
            raise unreadable(Path(filepath), self.config, error) from error
        if self.time_field in feat and Path(filepath).suffix == ".inter":
            check_times(Path(filepath), self.config, feat, self.field2type[self.time_field])
        return feat

    def _filter_nan_user_or_item(self):
        with self._reported("missing ids (NA, null and None count as missing)"):
            # at once: RecBole, once rows without a user are gone, takes the others' labels for their positions
            is_known = self.inter_feat[[self.uid_field, self.iid_field]].notna().all(axis=1)
            self.inter_feat = self.inter_feat[is_known].reset_index(drop=True)
            super()._filter_nan_user_or_item()

    def _remove_duplication(self):
        keep = self.config["rm_dup_inter"]
        if keep is None:
            return
        if self.time_field not in self.inter_feat:
            self.logger.warning(f"rm_dup_inter: {keep} goes by the order of the file, for no times are loaded.")
        self._sort_by_time()
        with self._reported(f"rm_dup_inter: {keep}"):
            self.inter_feat.drop_duplicates(subset=[self.uid_field, self.iid_field], keep=keep, inplace=True)

    def _filter_by_field_value(self):
        for field, wanted in (self.config["val_interval"] or {}).items():
            if field in self.field2type and field not in self.inter_feat and not self._follows_items:
                raise SettingError(
                    f"val_interval: {field} is no column of the .inter file, so it takes purchases only with "
                    "filter_inter_by_user_or_item: True: set that, or leave the column out."
                )
            if self.field2type.get(field) in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                check_interval(f"val_interval: {field}", wanted)
            elif field in self.field2type and not isinstance(wanted, list | set | tuple):
                raise SettingError(
                    f"val_interval: {field}: {wanted!r} must be a list of the values to keep, for {field} is a "
                    f"{self.field2type[field].value}."
                )
        with self._reported(f"val_interval: {self.config['val_interval']}"):
            super()._filter_by_field_value()

    @property
    def _follows_items(self) -> bool:
        """Whether purchases go with the users and items that go."""
        return self.config["filter_inter_by_user_or_item"] is True

    def _filter_inter_by_user_or_item(self):
        elsewhere = {
            field: wanted
            for field, wanted in (self.config["val_interval"] or {}).items()
            if field not in self.inter_feat
        }
        cause = f"val_interval: {elsewhere}" if elsewhere else "filter_inter_by_user_or_item: True"
        with self._reported(cause):
            super()._filter_inter_by_user_or_item()

    def _filter_by_inter_num(self):
        keys = ("user_inter_num_interval", "item_inter_num_interval")
        active = [key for key in keys if self.config[key] not in (None, "[0,inf)")]
        with self._reported(", ".join(f"{key}: {self.config[key]}" for key in active)):
            super()._filter_by_inter_num()
        self._sample_users()  # before a knowledge graph is cut to the items that are left

    def _filter_link(self):
        with self._reported("items without an entity of the knowledge graph (.link, .kg)"):
            super()._filter_link()

    def _sample_users(self) -> None:
        wanted, seed = self.config["user_sample"], self.config["sample_seed"]
        users = np.sort(self.inter_feat[self.uid_field].unique())
        if wanted is None or wanted >= len(users):
            return
        items = self.inter_feat[self.iid_field].nunique()
        self.inter_feat = self.inter_feat[self.inter_feat[self.uid_field].isin(set(draw(users, wanted, seed)))].copy()
        only = "" if self.item_feat is not None else ", and only these are ranked"
        self.logger.info(
            f"user_sample: kept {wanted} of {len(users)} users, drawn with sample_seed {seed}. They bought "
            f"{self.inter_feat[self.iid_field].nunique()} of {items} items{only}: scores are higher than with all "
            "users, and compare with scores of the same sample only."
        )

    def _remap_ID_all(self):
        frame = self.inter_feat
        users, items = frame[self.uid_field].nunique(), frame[self.iid_field].nunique()
        parts = self.benchmark_filename_list
        if parts is not None:
            self.logger.info(
                f"benchmark_filename: {parts} are the split as they are: no filter is applied, nor the split and order "
                "of eval_args."
            )
        elif self.time_field in frame and self.config["eval_args"]["order"] == "TO":
            self._say_ties(users)
        super()._remap_ID_all()
        if parts is None and self.config["rm_dup_inter"] is None:
            self._sort_by_time()  # only now, for ids are numbered in the order of the file
        ranked = self.item_num - 1
        more = (
            "" if ranked == items else f"; {ranked} items are ranked, with those of the .item file that nobody bought"
        )
        self.logger.info(f"Left after filtering: {users} users, {items} items, {len(frame)} purchases{more}.")

    def _sort_by_time(self) -> None:
        if self.time_field in self.inter_feat:
            self.inter_feat.sort_values(self.time_field, kind="stable", inplace=True, ignore_index=True)

    def _say_ties(self, users: int) -> None:
        frame = self.inter_feat.sort_values(self.time_field, kind="stable")
        last = frame.groupby(self.uid_field)[self.time_field].tail(2)
        tied = int(frame.loc[last.index].duplicated([self.uid_field, self.time_field]).sum())
        if tied:
            self.logger.info(
                f"{tied} of {users} users made their last purchases at the same {self.time_field}: which of them is "
                "the last follows from the order of the file."
            )

    @contextmanager
    def _reported(self, setting: str) -> Iterator[None]:
        """Say how many users, items and purchases the filter inside took, if any; a warning if most of the users."""
        before = self._counts()
        yield
        after = self._counts()
        if after == before:
            return
        taken = [old - new for old, new in zip(before, after, strict=True)]
        words = [f"{n} of {old} {what}" for n, old, what in zip(taken, before, _COUNTED, strict=True)]
        line = f"{setting} took {', '.join(words[:2])} and {words[2]}."
        if taken[0] > before[0] / 2:
            self.logger.warning(f"{line} That is more than half of the users.")
        else:
            self.logger.info(line)

    def _counts(self) -> tuple[int, int, int]:
        frame: pd.DataFrame = self.inter_feat
        return frame[self.uid_field].nunique(), frame[self.iid_field].nunique(), len(frame)


_COUNTED = ("users", "items", "purchases")


def draw(users: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    """``wanted`` of ``users``, the same for every model and every run's own seed."""
    return np.random.default_rng(seed).choice(users, size=wanted, replace=False)
