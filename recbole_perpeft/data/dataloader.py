"""Training batches: users of one group together, all their prefixes at once, negatives from what the group buys."""

from collections.abc import Iterator

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform

from recbole_perpeft.config.choices import PAIRS, SHARED, encoder_reads
from recbole_perpeft.data.batch_table import barred_ids, barred_rows, distinct_items, own_users, relabelled, rows_of
from recbole_perpeft.data.encoding_windows import Encoding, encoding_of, purchases_of_groups, windows
from recbole_perpeft.data.group_batches import GroupBatches
from recbole_perpeft.data.negative_pools import NegativePools
from recbole_perpeft.data.negative_weights import NegativeWeights
from recbole_perpeft.data.sequence_windows import left_out, shared_passes, without_oldest
from recbole_perpeft.data.user_batch import UserBatch, users_of_a_batch
from recbole_perpeft.utils.errors import SettingError


class UserBatchLoader(AbstractDataLoader):
    """Trains on all prefixes of some users of one group at a time.

    All prefixes of a user hold the same distinct items as one causal pass over their sequence, and give a causal
    backbone's outputs at every position, but work for every RecBole backbone.

    Parameters
    ----------
    config
        Reads ``users_per_batch``, ``prefixes_per_user``, ``loss_type``, ``num_negatives`` and ``seed``.
    dataset
        The training part of a :class:`~recbole_perpeft.data.preparation.SequenceDataset`.

    Attributes
    ----------
    users_per_batch : int
        Users of a batch at most.

    Raises
    ------
    SettingError
        If there are more groups than users.
    DataError
        If a user bought everything, and the loss needs a negative for every purchase.
    """

    def __init__(self, config, dataset):
        self.config, self._dataset, self.shuffle = config, dataset, True
        self._sampler = self.model = None
        self._transform = construct_transform(config)
        self._negatives = config.model_class.negatives_with(config["loss_type"])  # their kind, or None
        self.histories = dataset.training_sequences()
        rows_by_user = dataset.inter_feat[dataset.uid_field].numpy()
        order = np.argsort(rows_by_user, kind="stable")
        self.users, starts = np.unique(rows_by_user[order], return_index=True)  # [n_users_with_prefixes]
        if config["num_groups"] > len(self.users):
            raise SettingError(
                f"num_groups: {config['num_groups']} is more than the {len(self.users)} users who train. "
                f"Set it to at most {len(self.users)}."
            )
        self._rows = np.split(order, starts[1:])
        self.users_per_batch = config["users_per_batch"] or users_of_a_batch(self._rows_of_a_user())
        self._prefixes = dataset.inter_feat
        self._left_out = self._oldest_left_out(order)
        self._set_plan(np.zeros(dataset.user_num, dtype=np.int64), self._all_items(config["num_groups"]))
        if self._negatives not in (SHARED, None):
            self.pools.check(dataset.field2id_token[dataset.uid_field])
        torch.utils.data.DataLoader.__init__(
            self,
            dataset=range(len(self.users)),
            batch_sampler=self._batches,
            collate_fn=self.collate_fn,
            num_workers=config["worker"],
        )

    def _rows_of_a_user(self) -> float:
        """In a batch, in the mean."""
        most = self.config["prefixes_per_user"]
        return float(np.mean([len(rows) if most is None else min(len(rows), most) for rows in self._rows]))

    def _all_items(self, num_groups: int) -> NegativePools:
        cold = self._dataset.cold_ids()  # which nothing may teach the model to rank low
        return NegativePools.whole_catalogue(self._dataset.item_num, num_groups, self.histories, cold)

    def _set_plan(self, groups: np.ndarray, pools: NegativePools, group_negatives: bool = False) -> None:
        self.groups, self.pools = groups, pools
        self._encoding: Encoding | None = None
        self._weights, drawn, of_users = None, self.config["num_negatives"], groups[self.users]
        if self.config["correct_sampling"] and drawn is not None:
            self._weights = NegativeWeights(self.histories, self.users, of_users, pools, drawn, group_negatives)
        if hasattr(self, "_batches"):
            self._batches.groups = of_users
        else:
            self._batches = GroupBatches(of_users, self.users_per_batch, self.config["seed"])

    def set_groups(self, groups: np.ndarray, group_negatives: bool) -> None:
        """Batch by these groups from now on, with negatives from each group's purchases or from all items.

        Parameters
        ----------
        groups
            Group of every user id, ``[n_users]``.
        """
        pools = self._all_items(self.config["num_groups"])
        if group_negatives and self._negatives:
            pools = pools.of_groups(groups)
        self._set_plan(groups, pools, group_negatives)

    @property
    def purchases(self) -> Interaction:
        """All training rows, each a purchase and what was bought before."""
        return self._prefixes

    @property
    def group_pools(self) -> list[np.ndarray] | None:
        """What negatives of each group come from; None where the loss takes none."""
        return self.pools.pools if self._negatives else None

    def set_epoch(self, epoch: int) -> None:
        """Batches and negatives are those of ``epoch``, whatever ran before."""
        self._batches.epoch = epoch

    def windows(self, size: int | None) -> Iterator[list[UserBatch]]:
        """The epoch's batches, ``size`` of one group at a time (None: :attr:`together`), of its last maybe fewer."""
        return windows(self, size or self.together)

    @property
    def together(self) -> int:
        """How many batches' items are encoded together, if nobody says: 1 where no step runs the foundation model."""
        return self.encoding.together

    @property
    def encoding(self) -> Encoding:
        """That number, and which share of these items is encoded."""
        if not encoder_reads(self.config, "peft_layers"):
            return Encoding(1, 1.0)
        if self._encoding is None:
            histories = [self.histories[user] for user in self.users]
            drawn = (self.config["num_negatives"] or 0) if self._negatives else 0
            if self._negatives != SHARED:
                drawn *= self.users_per_batch * self._rows_of_a_user()
            of_groups = purchases_of_groups(self.groups[self.users], histories, self.pools.pools, drawn)
            self._encoding = encoding_of(of_groups, self.users_per_batch, self._dataset.item_num - 1)
        return self._encoding

    def _rng_of(self, positions: list[int]) -> np.random.Generator:
        return np.random.default_rng([self.config["seed"], self._batches.epoch, 1, *positions])

    def collate_fn(self, positions: list[int]) -> UserBatch:
        """The batch of the users at ``positions``."""
        rng = self._rng_of(positions)
        most = self.config["prefixes_per_user"]
        rows = [self._rows[position][-most if most else None :] for position in positions]
        data = self._read(np.concatenate(rows))
        users, group = self.users[positions], int(self.groups[self.users[positions[0]]])
        owner = np.repeat(np.arange(len(users)), [len(r) for r in rows])  # [n] position in ``users`` of each prefix
        return self._batch_of(data, users, owner, group, rng)

    def _batch_of(self, data: Interaction, users: np.ndarray, owner: np.ndarray, group: int, rng) -> UserBatch:
        """The batch of rows ``data [n]`` of ``users``; ``owner [n]`` is the position of each row's user among them.

        Of several processes each has the rows of some of the users, and the items of all.
        """
        fields, id_fields = self._fields(data)
        n = len(owner)
        fields, id_fields, owner, shared = self._with_negatives(fields, id_fields, users, owner, group, rng)
        repeats = len(owner) // n
        ids = [fields[key].numpy() for key in id_fields]
        items = distinct_items([*ids, shared, *self._further_items(users)], self._dataset.item_num)  # [m]
        part = None
        if self.config.model_class.loss_is_mean and (mine := own_users(owner, len(users))) is not None:
            fields, owner, users, part = rows_of(mine, fields, owner, users)
        number, histories = self.config["num_negatives"], [self.histories[user] for user in users]
        whole = self.config.model_class.whole_table or number is None
        if whole:
            barred = barred_ids(self._no_negatives(items, group), histories)  # [users, n_items]
        else:
            fields |= {key: relabelled(fields[key], items) for key in id_fields}
            barred = barred_rows(items, histories)  # [users, m + 1]
        weights = None
        if self._weights is not None:
            weights = self._weights.logarithms(group, self.users_per_batch, self._dataset.item_num)
            weights = weights if whole else weights[np.r_[0, items]]  # [m + 1]
        repeat = np.arange(len(owner)) * repeats // max(len(owner), 1)  # rows of two have no pass together
        passes, pass_of = self._passes(fields, owner + repeat * len(users))
        of_rows = {"owner": owner, "barred": barred, "users": users, "passes": passes, "pass_of": pass_of}
        of_rows = {name: torch.from_numpy(values) for name, values in of_rows.items()}
        of_rows["log_weights"] = None if weights is None else torch.from_numpy(weights)
        return UserBatch(fields, torch.from_numpy(items), group, whole, id_fields, part, **of_rows)

    def _no_negatives(self, items: np.ndarray, group: int) -> np.ndarray:
        """What of the whole catalogue is nobody's negative, bool ``[n_items]``: all but the pool, or but ``items``."""
        if self.config["num_negatives"] is None:
            return self.pools.outside(group, self._dataset.item_num)
        elsewhere = np.ones(self._dataset.item_num, dtype=bool)
        elsewhere[items] = False
        return elsewhere

    def _with_negatives(
        self, fields: dict, id_fields: list[str], users: np.ndarray, owner: np.ndarray, group: int, rng
    ) -> tuple[dict, list[str], np.ndarray, np.ndarray]:
        """Rows, their fields of item ids and their owners with negatives drawn, and what all rows share of these.

        Negatives of each row stand beside it (``PAIRS``: each row comes once for each), or are rows of their own with
        labels (``LABELS``).
        """
        number, kind = self.config["num_negatives"], self._negatives
        if kind is None or not number:
            return fields, id_fields, owner, np.empty(0, dtype=np.int64)
        if kind == SHARED:
            return fields, id_fields, owner, self.pools.draw_shared(number, group, rng)
        target, positives = self._dataset.iid_field, fields[self._dataset.iid_field]  # [n]
        drawn = torch.from_numpy(self.pools.draw(users[np.tile(owner, number)], group, rng))  # [number n]
        times = number if kind == PAIRS else 1 + number
        fields = {key: values.repeat(times, *[1] * (values.dim() - 1)) for key, values in fields.items()}
        if kind == PAIRS:
            beside = self.config["NEG_PREFIX"] + target
            fields, id_fields = {**fields, beside: drawn}, [*id_fields, beside]
        else:
            fields[target] = torch.cat([positives, drawn])
            fields[self.config["LABEL_FIELD"]] = (torch.arange(times * len(positives)) < len(positives)).float()
        return fields, id_fields, np.tile(owner, times), np.empty(0, dtype=np.int64)

    # -- what depends on the kind of recommender --------------------------------------------------------------------

    def _oldest_left_out(self, order: np.ndarray) -> np.ndarray | None:
        """How many of its oldest items each row is to be read without, ``[n]``; ``order [n]`` is user by user."""
        if not self.config.model_class.shares_passes:
            return None
        dataset, rows = self._dataset, self._prefixes
        stride = self.config["sequence_stride"] or -(-self.config["MAX_ITEM_LIST_LENGTH"] // 2)
        lengths = rows[dataset.item_list_length_field].numpy()
        full = order[lengths[order] == self.config["MAX_ITEM_LIST_LENGTH"]]  # of the others nothing is left out
        sequences = rows[dataset.item_id_list_field].numpy()[full]
        number = left_out(rows[dataset.uid_field].numpy()[full], sequences, lengths[full], stride)
        if not number.any():
            return None
        found = np.zeros(len(order), dtype=number.dtype)
        found[full] = number
        return found

    def _read(self, rows: np.ndarray) -> Interaction:
        """The training rows ``rows [n]``."""
        at = torch.from_numpy(rows)  # Interaction's own indexing takes fifty times as long
        data = Interaction({key: values.index_select(0, at) for key, values in self._prefixes.interaction.items()})
        if self._left_out is not None:
            sequence, length = self._dataset.item_id_list_field, self._dataset.item_list_length_field
            number = self._left_out[rows]
            shorter = without_oldest(data[sequence].numpy(), number)
            data.update(Interaction({sequence: shorter, length: data[length] - torch.from_numpy(number)}))
        return data

    def _fields(self, data: Interaction) -> tuple[dict, list[str]]:
        """What the backbone reads of the rows, and which of it are item ids; the second are the targets."""
        dataset = self._dataset
        sequence, target = dataset.item_id_list_field, dataset.iid_field
        names = [dataset.uid_field, sequence, dataset.item_list_length_field, target]
        given = set(data.interaction)
        data = self._transform(dataset, data)  # such as masked sequences
        added = [key for key in data.interaction if key not in given]
        fields = {key: data[key] for key in (*names, *added)}
        if self.config["loss_type"] == "CE":  # which does not read what RecBole draws for BPR; BERT4Rec's BPR does
            added = [key for key in added if key != self.config["NEG_ITEMS"]]
        if self.config.model_class.trims_sequences:
            fields[sequence] = fields[sequence][:, : int(fields[dataset.item_list_length_field].max())]
        return fields, [sequence, target, *(key for key in added if target in key)]

    def _further_items(self, users: np.ndarray) -> list[np.ndarray]:
        """Items that the backbone looks up beside those of the fields."""
        return []

    def _passes(self, fields: dict, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return shared_passes(owner, fields[self._dataset.item_list_length_field].numpy())


class GeneralBatchLoader(UserBatchLoader):
    """The same for general recommenders: all training purchases of the users, each a row, or a row for each user."""

    def collate_fn(self, positions: list[int]) -> UserBatch:
        """The batch of the users at ``positions``."""
        if not self.config.model_class.trains_by_user:
            return super().collate_fn(positions)
        users = self.users[positions]
        data = self._prefixes[np.array([self._rows[position][0] for position in positions])]
        group = int(self.groups[users[0]])
        return self._batch_of(data, users, np.arange(len(users)), group, self._rng_of(positions))

    def _fields(self, data: Interaction) -> tuple[dict, list[str]]:
        names = self._dataset.uid_field, self._dataset.iid_field
        return {key: data[key] for key in names}, [names[1]]

    def _further_items(self, users: np.ndarray) -> list[np.ndarray]:
        return [self.histories[user] for user in users] if self.config.model_class.trains_by_user else []

    def _rows_of_a_user(self) -> float:
        return 1.0 if self.config.model_class.trains_by_user else super()._rows_of_a_user()

    def _passes(self, fields: dict, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(len(owner)), np.arange(len(owner))
