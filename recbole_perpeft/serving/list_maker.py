"""Makes lists of items for rows of users, some users at a time, by a trained model."""

from collections.abc import Iterator

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from torch import nn

from recbole_perpeft.config import Config
from recbole_perpeft.data.dataset import SequencePurchases
from recbole_perpeft.data.item_lists import ItemLists
from recbole_perpeft.serving.best_items import BestItems
from recbole_perpeft.serving.catalogue import Catalogue
from recbole_perpeft.serving.histories import Histories, new_rows
from recbole_perpeft.serving.index import IndexReport
from recbole_perpeft.serving.list_options import ListOptions
from recbole_perpeft.serving.ranking import Ranking
from recbole_perpeft.utils.errors import RequestError


class ListMaker:
    """Ranks a catalogue's items for users by what is known of them.

    Parameters
    ----------
    model
        In evaluation mode.
    dataset
        A part of its data set.
    catalogue
        Its items.
    config
        The settings of its run.
    """

    def __init__(self, model: nn.Module, dataset: Dataset, catalogue: Catalogue, config: Config):
        self._model, self._dataset, self._catalogue = model, dataset, catalogue
        self._best = BestItems(model, dataset, config)
        self._transform = construct_transform(config) if isinstance(dataset, SequencePurchases) else None
        self._has_new = False

    def lists(
        self, known: Histories, names: np.ndarray, rows: np.ndarray, options: ListOptions
    ) -> Iterator[dict[str, np.ndarray]]:
        """Lists for ``rows [n]`` of ``known``, who are called ``names [n]``, some users at a time, column by column.

        Raises
        ------
        RequestError
            If an item or column is unknown, fewer items than asked for are left, or the model has no such group.
        """
        allowed = options.allowed(self._catalogue)
        options.check_left(known.bought, rows, names, allowed)
        options.check_groups(self._model)
        told = options.told(self._catalogue)
        shut = torch.from_numpy(np.flatnonzero(~allowed)).to(self._model.device)
        step = len(rows)
        if step > 1:
            step = min(step, self._best.rows_of_a_block(self._interaction(known, rows[:1])))
        ranking = Ranking(len(self._catalogue), step, shut)
        for block in np.array_split(np.arange(len(rows)), -(-len(rows) // step)):
            interaction, bought = self._interaction(known, rows[block]), None
            if not options.seen:
                bought = tuple(index.to(self._model.device) for index in known.bought.take(rows[block]))
            best, found = self._best.of(interaction, ranking, bought, options.k, options.by_group)  # [block, k]
            best, found = best.flatten().cpu().numpy(), found.flatten().cpu().numpy()
            columns = {
                "user_id": names[block].repeat(options.k),
                "rank": np.tile(np.arange(1, options.k + 1), len(block)),
            }
            columns |= {"item_id": self._catalogue.tokens[best], "score": found}
            columns |= {name: values[best] for name, values in told.items()}
            if options.group:
                columns["group"] = self._groups(interaction).repeat(options.k)
            yield columns

    def lists_new(self, numbers: list[np.ndarray], options: ListOptions) -> Iterator[dict[str, np.ndarray]]:
        """As :meth:`lists`, for users of whom only the ``numbers`` of items that each has bought are known.

        They are called by their places, from 0.

        Raises
        ------
        RequestError
            As :meth:`lists`; and if nothing is known of one of them, or there are none.
        """
        if not numbers:
            raise RequestError("No history is given: a new user is known by the items that they bought.")
        for number, history in enumerate(numbers):
            if not len(history):
                raise RequestError(f"History {number} is empty: a new user is known by at least one item.")
        self._prepare_for_new()
        known = Histories(np.zeros(len(numbers), np.int64), new_rows(self._dataset, numbers), ItemLists.of(numbers))
        rows = np.arange(len(numbers))
        return self.lists(known, rows.astype(str).astype(object), rows, options)

    def scores(self, known: Histories, rows: np.ndarray) -> torch.Tensor:
        """Scores of every item for ``rows [n]`` of ``known``, ``[n, n_items]``."""
        return self._best.scores(self._interaction(known, rows))

    def use_index(self, known: Histories, rows: np.ndarray, candidates: int, k: int) -> IndexReport:
        """As of :class:`BestItems`, measured by ``rows [n]`` of ``known``."""
        return self._best.use_index(self._interaction(known, rows), candidates, k)

    def _interaction(self, known: Histories, rows: np.ndarray) -> Interaction:
        interaction = known.rows[torch.from_numpy(rows)]
        if self._transform is not None:
            interaction = self._transform(self._dataset, interaction)
        return interaction.to(self._model.device)

    @torch.no_grad()
    def _groups(self, interaction: Interaction) -> np.ndarray:
        return self._model._groups_of(interaction).cpu().numpy()

    def _prepare_for_new(self) -> None:
        """Let a new user, who is padding to the model, be the mean of all users where it has learnt each."""
        if self._has_new:
            return
        n_users = self._dataset.user_num
        with torch.no_grad():
            for name, module in self._model.named_children():
                if isinstance(module, nn.Embedding) and name.startswith("user") and module.num_embeddings == n_users:
                    module.weight[0] = module.weight[1:].mean(dim=0)
        self._has_new = True
