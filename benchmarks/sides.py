"""What the speed benchmark compares: the naive reference and this package under some settings, behind one interface."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.naive import EVAL_BATCH, NaivePerPEFT, NaiveTrainer
from benchmarks.parts import CONTENT, FORWARD, OPTIMISER, synchronise
from benchmarks.synthetic import NAME, Shop
from recbole_perpeft.config import Config
from recbole_perpeft.content import ItemContent
from recbole_perpeft.data.dataloader import UserBatchLoader
from recbole_perpeft.data.preparation import create_dataset, data_preparation
from recbole_perpeft.data.user_batch import UserBatch
from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.model_folder import quiet_transformers
from recbole_perpeft.encoder.foundation.state_store import StateStore
from recbole_perpeft.quick_start import prepare
from recbole_perpeft.trainer.stage import Stage

PAPER = "properties/variant/paper.yaml"
SEED = 2020
# of the naive validation, which would take hours in full
_SAMPLED_BATCHES, _SAMPLED_USERS = 3, 100


@dataclass(frozen=True)
class Settings:
    """Settings of one side.

    Attributes
    ----------
    name : str
        ``naive``, or what the output calls this package's side.
    command_line : tuple of str
        ``--key=value`` words, over the package's defaults and ``files``.
    files : tuple of str
        Settings files.
    """

    name: str
    command_line: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def config(self, shop: Shop, num_groups: int, device: torch.device, work: Path) -> Config:
        """The Config of a run on ``shop`` that writes below ``work``."""
        values = {
            "data_path": str(shop.folder.parent),
            "encoder": str(shop.encoder),
            "content_cache": str(work / "content"),
            "checkpoint_dir": str(work / "saved"),
            "num_groups": num_groups,
            "use_gpu": device.type == "cuda",
            "seed": SEED,
            "show_progress": False,
        }
        return Config("PerPEFTSASRec", NAME, list(self.files), values, list(self.command_line))


NAIVE = Settings("naive", files=(PAPER,))


def _windows(train_data: UserBatchLoader, size: int) -> Iterator[list[UserBatch]]:
    for epoch in itertools.count():
        train_data.set_epoch(epoch)
        yield from train_data.windows(size)


def steps_of(groups: np.ndarray, users_per_batch: int) -> int:
    """Steps of an epoch over users with these groups ``[n]``."""
    return int(sum(-(-size // users_per_batch) for size in np.bincount(groups)))


@dataclass
class Validation:
    """Seconds of one validation, and how they were found."""

    seconds: float
    how: str
    parts: dict[str, float] = field(default_factory=dict)


class OurSide:
    """This package under some settings."""

    def __init__(self, settings: Settings, shop: Shop, num_groups: int, device: torch.device, work: Path):
        self.name, self.device = settings.name, device
        start = time.perf_counter()
        self.config = settings.config(shop, num_groups, device, work)
        _, self.trainer, self.train_data, self.valid_data, _ = prepare(self.config)
        self.seconds_to_prepare = time.perf_counter() - start
        self.model = self.trainer.model

    @property
    def items_encoded(self) -> int:
        """Items that went through the foundation model so far."""
        return self.model.item_tower.encoder.items_encoded

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return steps_of(self.train_data.groups[self.train_data.users], self.train_data.users_per_batch)

    def personalise(self, groups: np.ndarray) -> None:
        """What stage 2 does, with ``groups [n_users]`` given."""
        if self.config["num_negatives"] is None:  # the loss reads what stage 2 leaves: the catalogue of every group
            self.model.user_representations(self.train_data.histories)
        users = np.fromiter(self.train_data.histories, dtype=np.int64)
        self.model.personalise(users, groups[users])
        self.train_data.set_groups(groups, self.config["group_negatives"])
        self.trainer.begin_stage(Stage.PERSONALISED)

    def windows(self) -> Iterator[list[UserBatch]]:
        """Batches that are encoded together, of one epoch after the other."""
        return _windows(self.train_data, self.config["batches_per_encoding"])

    def train(self, window: list[UserBatch]) -> None:
        """One optimiser step on each batch."""
        self.trainer.steps.train_window(window)

    def begin_training(self) -> None:
        """After a validation, or at the start; another validation encodes all items anew."""
        self.trainer.steps.begin_epoch(self.train_data)
        self.model.train()
        self.model.invalidate()

    def validate(self) -> Validation:
        """One whole validation."""
        synchronise(self.device)
        start = time.perf_counter()
        self.trainer._valid_epoch(self.valid_data)
        synchronise(self.device)
        seconds = time.perf_counter() - start
        self.begin_training()
        return Validation(seconds, "measured in full")

    def whole_epoch(self, epoch: int) -> float:
        """Seconds of one whole training epoch."""
        synchronise(self.device)
        start = time.perf_counter()
        self.trainer._train_epoch(self.train_data, epoch)
        synchronise(self.device)
        return time.perf_counter() - start

    @property
    def places(self) -> list[tuple]:
        """Which functions belong to which part of a step."""
        return [
            (ItemContent, "batch", CONTENT),
            (StateStore, "gather", CONTENT),
            (FoundationModel, "encode", FORWARD),
            (self.trainer.optimizer, "step", OPTIMISER),
        ]


class NaiveSide:
    """The naive reference, on the data set as this package reads and splits it."""

    def __init__(self, shop: Shop, num_groups: int, device: torch.device, work: Path):
        self.name, self.device = NAIVE.name, device
        start = time.perf_counter()
        self.config = config = NAIVE.config(shop, num_groups, device, work)
        self.train_data, _, _ = data_preparation(config, create_dataset(config))
        dataset = self.train_data._dataset
        tokens, titles = dataset.field2id_token[dataset.iid_field], shop.titles()
        torch.manual_seed(SEED)
        with quiet_transformers():
            self.model = NaivePerPEFT(
                config,
                dataset,
                shop.encoder,
                [shop.picture(token) for token in tokens],
                [titles.get(token, "") for token in tokens],
            ).to(device)
        histories = self.train_data.histories
        self.trainer = NaiveTrainer(
            self.model,
            self._optimizer(),
            histories,
            {user: int(dataset.sequences[user][len(items)]) for user, items in histories.items()},
            config["MAX_ITEM_LIST_LENGTH"],
            self.train_data.pools.pools,
            np.random.default_rng(SEED),
        )
        self.groups = np.zeros(dataset.user_num, dtype=np.int64)
        self.seconds_to_prepare = time.perf_counter() - start

    def _optimizer(self) -> torch.optim.Optimizer:
        settings = {"lr": self.config["learning_rate"], "weight_decay": self.config["weight_decay"]}
        return torch.optim.AdamW(self.model.trainable_parameters(), **settings)

    @property
    def items_encoded(self) -> int:
        """Items that went through the encoder so far."""
        return self.model.items_encoded

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return steps_of(self.groups[self.train_data.users], self.train_data.users_per_batch)

    def personalise(self, groups: np.ndarray) -> None:
        """What stage 2 does, with ``groups [n_users]`` given."""
        self.groups = groups
        self.model.personalise()
        self.train_data.set_groups(groups, True)  # only draws the pools: batches are the paper side's
        self.trainer.pools = self.train_data.pools.pools
        self.trainer.optimizer = self._optimizer()

    def windows(self) -> Iterator[list[UserBatch]]:
        """Batches as this package makes them; of each only the users and their group are used."""
        return _windows(self.train_data, 1)

    def train(self, window: list[UserBatch]) -> None:
        """One optimiser step on the users of each batch."""
        for batch in window:
            self.trainer.step(batch[self.train_data._dataset.uid_field].unique().tolist(), batch.group)

    def begin_training(self) -> None:
        """After a validation, or at the start."""
        self.model.train()

    def validate(self) -> Validation:
        """One validation, scaled up from some batches of the catalogue and some users."""
        self.model.eval()
        n_items, users = len(self.model.titles), list(self.trainer.histories)
        items = np.arange(1, n_items)
        sample = items[: _SAMPLED_BATCHES * EVAL_BATCH]
        self.trainer.table(sample[:EVAL_BATCH], 0)  # warm-up
        synchronise(self.device)
        start = time.perf_counter()
        rows = self.trainer.table(sample, 0)
        synchronise(self.device)
        per_item = (time.perf_counter() - start) / len(sample)
        table = torch.zeros(n_items, rows.shape[1], device=self.device)
        table[1 : len(rows) + 1] = rows
        self.trainer.rank(users[0], table)  # warm-up
        start = time.perf_counter()
        ranked = users[:_SAMPLED_USERS]
        for user in ranked:
            self.trainer.rank(user, table)  # reads the rank, which waits for a GPU
        per_user = (time.perf_counter() - start) / len(ranked)
        self.begin_training()
        num_groups = len(self.model.projectors)
        encoding, ranking = per_item * len(items) * num_groups, per_user * len(users)
        how = (
            f"scaled: {per_item:.4g} s an item (of {len(sample)}) x {len(items)} items x {num_groups} groups "
            f"+ {per_user:.4g} s a user (of {len(ranked)}) x {len(users)} users"
        )
        return Validation(encoding + ranking, how, {"encoding": encoding, "ranking": ranking})

    @property
    def places(self) -> list[tuple]:
        """Which functions belong to which part of a step."""
        return [
            (self.model, "content", CONTENT),
            (self.model, "encode", FORWARD),
            (self.trainer.optimizer, "step", OPTIMISER),
        ]


def make_side(settings: Settings, shop: Shop, num_groups: int, device: torch.device, work: Path) -> OurSide | NaiveSide:
    """The side that ``settings`` describe."""
    if settings == NAIVE:
        return NaiveSide(shop, num_groups, device, work)
    return OurSide(settings, shop, num_groups, device, work)
