"""Ranking among drawn items (``uni100``, ``pop100``): the same ones for every model, epoch and process."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from recbole.data.dataloader import NegSampleEvalDataLoader
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import EvaluatorType, ModelType

from recbole_perpeft.config.registry import is_perpeft
from recbole_perpeft.data.eval_dataloader import FullRankingLoader
from recbole_perpeft.data.item_lists import ItemLists

_PARTS = {"valid": 1, "test": 2}
_SCORED_BY_USER = (ModelType.GENERAL, ModelType.TRADITIONAL, ModelType.SEQUENTIAL)
# Backbones whose scores of all items cost as much as all pairs: they have no user vector of which items are read off.
_SCORED_BY_PAIR = {"NAIS"}


class SampledRankingLoader(NegSampleEvalDataLoader):
    """RecBole's loader, with candidates that follow from ``sample_seed``, the part of the data and the user alone.

    RecBole draws them from numpy's global generator, after whatever was drawn before: another model, or the same one
    loaded from its checkpoint, is then tested among other items, and a validation moves the draws of training.

    Each row is a user with one candidate, to be scored by the model's ``predict``.
    """

    def _neg_sampling(self, inter_feat: Interaction) -> Interaction:
        """The purchases of one user with their candidates."""
        with _draws_of(int(inter_feat[self._dataset.uid_field][0]), self._sampler, self.config):
            return super()._neg_sampling(inter_feat)

    def rows_in_order(self) -> np.ndarray:
        """All users, by their place in the loader, ``[n]``."""
        return np.arange(self.sample_size)

    def blocks_of(self, rows: np.ndarray) -> list[np.ndarray]:
        """The ``rows [n]`` of each batch."""
        return np.split(rows, range(self.step, len(rows), self.step))


class CandidateRankingLoader(FullRankingLoader):
    """The candidates of :class:`SampledRankingLoader`, among the scores of all items from one pass a user.

    It is the loader of full ranking with another mask: everything but a row's candidates. ``predict`` would run a
    sequential model's backbone once for every candidate. Candidates are drawn at the first evaluation and kept.
    """

    _candidates: ItemLists | None = None

    def _masked(self) -> None:
        """Nothing of the history: what may be drawn is the sampler's business."""

    def collate_fn(self, index):
        """As full ranking's, with a ``mask [rows, n_items]`` of all that was not drawn in place of the history."""
        interaction, _, positive_u, positive_i = super().collate_fn(index)
        if self._candidates is None:
            self._candidates = self._draw()
        device = self.config["device"]
        rows, items = (part.to(device) for part in self._candidates.take(np.asarray(index)))
        mask = torch.ones(len(index), self._dataset.item_num, dtype=torch.bool, device=device)
        mask[rows, items] = False
        return interaction, (mask,), positive_u, positive_i

    def _draw(self) -> ItemLists:
        """The candidates of every user, in the order of the loader's rows: their targets, and what is drawn."""
        feat, number = self._dataset.inter_feat, self.config[f"{self._sampler.phase}_neg_sample_args"]["sample_num"]
        users, targets = feat[self.uid_field].numpy(), feat[self.iid_field].numpy()
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        lists = []
        for own, bought in zip(np.split(users, starts[1:]), np.split(targets, starts[1:]), strict=True):
            with _draws_of(int(own[0]), self._sampler, self.config):
                drawn = self._sampler.sample_by_user_ids(own, bought, number).numpy()
            lists.append(np.concatenate([bought, drawn]).astype(np.int32))
        return ItemLists.of(lists)


@contextmanager
def _draws_of(user: int, sampler, config) -> Iterator[None]:
    """For a while, numpy's global generator as it draws the candidates of ``user``."""
    state = np.random.get_state()
    np.random.seed([config["sample_seed"], _PARTS[sampler.phase], user])
    try:
        yield
    finally:
        np.random.set_state(state)


def sampled_loader(config, dataset) -> type:
    """The class of the loader that ranks the targets of ``dataset`` among drawn items.

    Scores come from one pass a user where the model gives all of a user's scores at once and they are only ranked, and
    where a user has one ranking: a sequential model whose users have several targets gives each its own pass.
    """
    by_user = config["MODEL_TYPE"] in _SCORED_BY_USER and scores_by_user(config.model_class)
    if not by_user or config["eval_type"] != EvaluatorType.RANKING:
        return SampledRankingLoader
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        users = dataset.inter_feat[dataset.uid_field].numpy()
        if len(np.unique(users)) < len(users):
            return SampledRankingLoader
    return CandidateRankingLoader


def scores_by_user(model_class: type) -> bool:
    """Whether a model (a PerPEFT model's backbone) has a way to all scores of a user that is not pair by pair."""
    classes = [cls for cls in model_class.__mro__ if cls is not AbstractRecommender]
    if any(cls.__name__ in _SCORED_BY_PAIR for cls in classes):
        return False
    if is_perpeft(model_class):
        classes = [cls for cls in classes if issubclass(cls, AbstractRecommender)]  # without the mixins
    return any("full_sort_predict" in vars(cls) for cls in classes)
