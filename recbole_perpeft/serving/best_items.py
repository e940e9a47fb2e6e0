"""The best items of users: by inner products or an index of them where scores are such, else by all scores."""

from contextlib import nullcontext

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import nn

from recbole_perpeft.config import Config
from recbole_perpeft.data.item_lists import SCORES_OF_A_BLOCK, rows_of_a_block
from recbole_perpeft.model.pairwise import scores_of_pairs
from recbole_perpeft.serving.index import IndexReport, ItemIndex
from recbole_perpeft.serving.products import additions_of, has_products, products_of
from recbole_perpeft.serving.ranking import Pairs, Ranking
from recbole_perpeft.utils.errors import RequestError

_VECTORS = 512  # users whose vectors are computed at a time, if not more
_WORTH_AN_INDEX = 0.5  # of all items that lists may hold: of fewer, too few are among an index's candidates


class BestItems:
    """Ranks all items, or those that an index finds.

    Parameters
    ----------
    model
        In evaluation mode.
    dataset
        A part of its data set.
    config
        The settings of its run.
    """

    def __init__(self, model: nn.Module, dataset: Dataset, config: Config):
        self._model, self._dataset, self._config = model, dataset, config
        self._multiplies: bool | None = None
        self._index: ItemIndex | None = None

    @torch.no_grad()
    def scores(self, interaction: Interaction) -> torch.Tensor:
        """Scores of every item for each row, ``[n, n_items]``."""
        try:
            scores = self._model.full_sort_predict(interaction)
        except NotImplementedError:
            features = self._dataset.get_item_feature().to(self._model.device)
            scores = scores_of_pairs(self._model.predict, interaction, features, self._config["eval_batch_size"])
        return scores.view(len(interaction), -1)

    def multiplies(self, interaction: Interaction) -> bool:
        """Whether scores are inner products, as the first ``interaction`` tells."""
        if self._multiplies is None:
            self._multiplies = has_products(self._model, interaction[:1])
        return self._multiplies

    def rows_of_a_block(self, interaction: Interaction) -> int:
        """How many rows like those of ``interaction`` are ranked at a time."""
        if self.multiplies(interaction):  # a ranking takes some of them at a time
            rows = max(SCORES_OF_A_BLOCK["cuda"] // self._dataset.item_num, _VECTORS)
            return min(rows, self._config["eval_batch_size"])
        return rows_of_a_block(self._dataset.item_num, self._config)

    def use_index(self, interaction: Interaction, candidates: int, k: int) -> IndexReport:
        """Look for items by an index from now on.

        Parameters
        ----------
        interaction
            Rows by which it is measured.
        candidates
            See :class:`~recbole_perpeft.serving.index.ItemIndex`.

        Raises
        ------
        RequestError
            If scores are no inner products, or faiss is missing.
        """
        if not self.multiplies(interaction):
            raise RequestError(
                f"{self._config['model']} has no index: its scores are not inner products of a user's and an item's "
                "vector. Lists by all scores are as they are."
            )
        index = ItemIndex(candidates)
        products, added = products_of(self._model, interaction), additions_of(self._model, interaction)
        report = index.build(products, len(interaction), k, added)
        self._index = index
        return report

    def of(
        self, interaction: Interaction, ranking: Ranking, bought: Pairs | None, k: int, by_group: int | None = None
    ) -> Pairs:
        """The k best items of each row, best first, and their scores, ``[n, k]`` each.

        Parameters
        ----------
        ranking
            For so many rows at least; knows which items no list may hold.
        bought
            Row and item ``[n]`` of what each row's list may not hold.
        by_group
            The group whose module alone scores; None: those of each user's groups.
        """
        with nullcontext() if by_group is None else self._model.scored_by(by_group):
            return self._of(interaction, ranking, bought, k)

    def _of(self, interaction: Interaction, ranking: Ranking, bought: Pairs | None, k: int) -> Pairs:
        if not self.multiplies(interaction):
            return ranking.of_scores(self.scores(interaction), bought, k)
        products, rows = products_of(self._model, interaction), len(interaction)
        added = additions_of(self._model, interaction)
        if self._index is None or len(ranking.shut) > _WORTH_AN_INDEX * self._dataset.item_num:
            return ranking.of_products(products, rows, bought, k, added)
        items, scores = self._index.best(products, rows, ranking.shut, bought, k, added)
        if items.shape[1] < k or (items == 0).any():  # too few of the candidates are left for someone
            return ranking.of_products(products, rows, bought, k, added)
        return items, scores
