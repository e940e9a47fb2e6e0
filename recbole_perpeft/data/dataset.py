"""The data set of each kind of model: RecBole's class, with this package's order, filters and samples of purchases."""

import numpy as np
import torch
from recbole.data import dataset as recbole_datasets
from recbole.data.dataset import Dataset, KGSeqDataset, KnowledgeBasedDataset, SequentialDataset
from recbole.data.dataset.customized_dataset import DIENDataset
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from recbole_perpeft.data.cold_items import hold_out
from recbole_perpeft.data.purchase_filters import PurchaseFilters

_BEGIN = "_begin"  # of a row: where its list begins among all purchases in order
_ROWS = 65_536  # whose lists are filled at a time


class GeneralPurchases(PurchaseFilters):
    """A mixin for models whose rows are purchases."""

    def training_sequences(self) -> dict[int, np.ndarray]:
        """User id to their training purchases, oldest first; to be asked of the training part."""
        users, items = self.inter_feat[self.uid_field].numpy(), self.inter_feat[self.iid_field].numpy()
        # rows are in order of time but for shuffled ones (order: RO) and those of pre-split files
        times = self.inter_feat[self.time_field].numpy() if self.time_field in self.inter_feat else np.zeros(len(users))
        order = np.lexsort((times, users))
        there, starts = np.unique(users[order], return_index=True)
        return dict(zip(there.tolist(), np.split(items[order], starts[1:]), strict=True))

    @property
    def sequences(self) -> dict[int, np.ndarray]:
        """As :meth:`training_sequences`."""
        return self.training_sequences()

    def cold_ids(self) -> np.ndarray:
        """None: cold items are for sequential recommenders."""
        return np.empty(0, dtype=np.int64)


class SequencePurchases(PurchaseFilters):
    """A mixin for sequential models, whose rows are prefixes; it remembers every user's purchases in order.

    Attributes
    ----------
    sequences : dict[int, numpy.ndarray]
        User id to their item ids, oldest first, held-out ones included. RecBole's own prefixes are cut to
        ``MAX_ITEM_LIST_LENGTH`` items, too short a memory for masking a history.
    """

    cold_tokens: np.ndarray | None = None
    _splits = False  # whether what is made of all rows is split into parts
    ordered: Interaction | None = None  # all purchases, of which the lists of rows are made

    def _filter_by_inter_num(self):
        super()._filter_by_inter_num()
        share, seed = self.config["cold_items"], self.config["sample_seed"]
        if not share:
            return
        fields = self.uid_field, self.iid_field, self.time_field
        with self._reported(f"cold_items: {share}"):
            self.inter_feat, self.cold_tokens = hold_out(self.inter_feat, *fields, share, seed)
        self.logger.info(
            f"cold_items: {len(self.cold_tokens)} items are held out of training, drawn with sample_seed {seed}."
        )

    def cold_ids(self) -> np.ndarray:
        """Ids of the cold items (``cold_items``), ``[n]``; of those that some user bought last."""
        known = self.field2token_id[self.iid_field]
        tokens = () if self.cold_tokens is None else self.cold_tokens
        return np.array([known[str(token)] for token in tokens if str(token) in known], dtype=np.int64)

    def data_augmentation(self):
        self.make_rows()
        if not self._splits:
            self.make_lists()

    def make_rows(self) -> None:
        """Make a row of every purchase but a user's first; :meth:`make_lists` adds what they had bought before it."""
        if not _in_order(*(self.inter_feat[field].numpy() for field in (self.uid_field, self.time_field))):
            self.sort(by=[self.uid_field, self.time_field], ascending=True)
        users, items = self.inter_feat[self.uid_field].numpy(), self.inter_feat[self.iid_field].numpy()
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        self.sequences = dict(zip(users[starts].tolist(), np.split(items, starts[1:]), strict=True))
        self._augment(starts)

    def _augment(self, starts: np.ndarray) -> None:
        """The rows of RecBole's ``data_augmentation``, without its loops over rows (seconds on large data).

        Every purchase but a user's first is the target of one row.

        Parameters
        ----------
        starts
            First row of each user in ``inter_feat``, which is sorted by user and time.
        """
        self._aug_presets()
        n = len(self.inter_feat)
        first_of_user = np.repeat(starts, np.diff(np.r_[starts, n]))  # [n]
        targets = np.delete(np.arange(n), starts)  # [rows]
        begins = np.maximum(first_of_user[targets], targets - self.max_item_list_len)  # [rows]
        self.ordered, rows = self.inter_feat, self.inter_feat[targets]
        lengths = {self.item_list_length_field: torch.from_numpy(targets - begins)}
        rows.update(Interaction({**lengths, _BEGIN: torch.from_numpy(begins)}))
        self.inter_feat = rows

    def build(self) -> list[Dataset]:
        """As RecBole's; lists are made of the parts' rows, and not of all rows first."""
        self._splits = True
        parts = super().build()
        for part in parts:
            part.make_lists()
        if _BEGIN in self.inter_feat:
            self.inter_feat.drop(_BEGIN)
            self.ordered = None
        return parts

    def make_lists(self) -> None:
        """Put what users had bought before each row beside it, for all rows."""
        self.inter_feat = self.with_lists(self.inter_feat)
        self.ordered = None

    def with_lists(self, rows: Interaction) -> Interaction:
        """Some of this data set's rows with what users had bought before each, of every column.

        Parameters
        ----------
        rows
            ``[n]``; those that have lists already are given back as they are.

        Returns
        -------
        Interaction
            ``[n]``, with lists ``[n, MAX_ITEM_LIST_LENGTH]``, padded with zeros at the end.
        """
        if _BEGIN not in rows:
            return rows
        columns, longest = dict(rows.interaction), self.max_item_list_len
        begins, lengths = columns.pop(_BEGIN), rows[self.item_list_length_field]
        for field in self.ordered:
            if field == self.uid_field:
                continue
            values = self.ordered[field]  # [n, ...]
            lists = values.new_zeros(len(rows), longest, *values.shape[1:])
            for some in torch.arange(len(rows)).split(_ROWS):
                within = torch.arange(longest) < lengths[some, None]  # [some, longest]
                places = (begins[some, None] + torch.arange(longest))[within]
                lists[some[:, None].expand_as(within)[within], within.nonzero()[:, 1]] = values[places]
            columns[getattr(self, f"{field}_list_field")] = lists
        return Interaction(columns)

    def training_sequences(self) -> dict[int, np.ndarray]:
        """User id to their training purchases, oldest first; to be asked of the training part.

        A user's prefixes are split in time order and every one has one target, so the training purchases are the
        first item and one more per training prefix.
        """
        users, counts = np.unique(self.inter_feat[self.uid_field].numpy(), return_counts=True)
        return {user: self.sequences[user][: n + 1] for user, n in zip(users.tolist(), counts.tolist(), strict=True)}


def _in_order(users: np.ndarray, times: np.ndarray) -> bool:
    """Whether purchases ``[n]`` are sorted by user and time, as those of a bundle are."""
    later = (users[1:] == users[:-1]) & (times[1:] >= times[:-1])
    return bool(np.all((users[1:] > users[:-1]) | later))


class GeneralDataset(GeneralPurchases, Dataset):
    """Of general, traditional and context-aware models."""


class KnowledgeDataset(GeneralPurchases, KnowledgeBasedDataset):
    """Of models with a knowledge graph."""


class SequenceDataset(SequencePurchases, SequentialDataset):
    """Of sequential models."""


class KnowledgeSequenceDataset(SequencePurchases, KGSeqDataset):
    """Of sequential models with features of entities: GRU4RecKG and KSR."""


class NegativeSequenceDataset(SequencePurchases, DIENDataset):
    """Of DIEN, which draws a negative for every item of a sequence."""

    def _augment(self, starts):
        DIENDataset.data_augmentation(self)


_CLASSES = (NegativeSequenceDataset, KnowledgeSequenceDataset, SequenceDataset, KnowledgeDataset, GeneralDataset)


def dataset_class(model: str, model_type: ModelType) -> type[PurchaseFilters]:
    """The class for a model, on top of the one that RecBole takes for it."""
    by_type = {ModelType.SEQUENTIAL: SequentialDataset, ModelType.KNOWLEDGE: KnowledgeBasedDataset}
    recbole_class = getattr(recbole_datasets, f"{model}Dataset", by_type.get(model_type, Dataset))
    return next(ours for ours in _CLASSES if issubclass(recbole_class, ours.__bases__[1]))
