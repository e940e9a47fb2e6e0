"""Lists of items for users, from what a run has trained."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from recbole.data.dataset import Dataset
from torch import nn

from recbole_perpeft.data.dataset import SequencePurchases
from recbole_perpeft.evaluation.known_purchases import knowing
from recbole_perpeft.serving.catalogue import Catalogue, ids_of, nearest, new_items_in
from recbole_perpeft.serving.histories import known_histories, one_row, purchases_of
from recbole_perpeft.serving.index import IndexReport
from recbole_perpeft.serving.list_maker import ListMaker
from recbole_perpeft.serving.list_options import ListOptions
from recbole_perpeft.serving.new_items import NewItems, check_takes_items, read_new_items, with_new_items
from recbole_perpeft.serving.opening import Opened, open_trained
from recbole_perpeft.utils.errors import RequestError

if TYPE_CHECKING:  # a bundle is served without pandas
    import pandas as pd

_MEASURED = 1000  # users by whom an index is measured


class Recommender:
    """Recommends items by a trained model, of this package or of RecBole.

    Scores are those of the evaluation; what is known of users is all that they bought, the newest purchase included.

    Parameters
    ----------
    opened
        A trained model, which is the recommender's own from now on, and what is known beside it.
    before_test
        Whether users are known as they were in the test, without what they bought in it.

    Attributes
    ----------
    model : torch.nn.Module
        As given.
    catalogue : Catalogue
        The items.
    users : list of str
        Ids of the users of whom something is known.
    """

    def __init__(self, opened: Opened, before_test: bool = False):
        self.config, parts = opened.config, opened.parts
        self._is_sequential = isinstance(parts[0], SequencePurchases)
        self._histories = known_histories(parts, before_test)
        if self._is_sequential:
            parts = [one_row(part) for part in parts]
        self._encoder = opened.encoder
        self._take(opened.model.eval(), parts, opened.catalogue)
        tokens = self._dataset.field2id_token[self._dataset.uid_field]
        self.users = [str(token) for token in tokens[self._histories.users]]
        self._names = np.array(self.users, dtype=object)
        self._row_of = {user: row for row, user in enumerate(self.users)}
        self._stack = ExitStack()
        if not self._is_sequential and self.config["grow_history"]:
            known = SimpleNamespace(config=self.config, known=purchases_of(parts, before_test))
            self._stack.enter_context(knowing(self.model, known))

    def _take(self, model: nn.Module, parts: Sequence[Dataset], catalogue: Catalogue) -> None:
        self.model, self._parts, self._dataset, self.catalogue = model, parts, parts[0], catalogue
        self._maker = ListMaker(model, self._dataset, catalogue, self.config)

    @classmethod
    def load(
        cls, file: str | Path, settings: dict | None = None, before_test: bool = False, new_data: bool = False
    ) -> "Recommender":
        """Open what a run has written.

        Parameters
        ----------
        file
            A checkpoint, or a bundle's folder. A checkpoint of one of RecBole's own models is a pickle, which can run
            any code when it is read: give only files that you trust.
        settings
            Those that have changed since, such as a moved ``data_path`` or ``encoder`` folder.
        before_test
            As of the class.
        new_data
            Whether the data may be others than those of the checkpoint, with more purchases, users and items
            (:func:`~recbole_perpeft.quick_start.load`).

        Raises
        ------
        PerPEFTError
            If the file cannot be read, or data, content, encoder or settings are not those it was made with.
        """
        return cls(open_trained(file, settings, new_data), before_test)

    def add_items(self, file: str | Path) -> list[str]:
        """Take items that came after the training, by their pictures and texts; nothing is trained.

        They can be recommended, and be in histories of new users. The foundation model is loaded to read them. An index
        does not know them: lists are by all scores again until the next :meth:`use_index`.

        Parameters
        ----------
        file
            An atomic ``.item`` file with these items alone. Pictures are looked for from its folder on, as
            ``image_dir`` or ``image_field`` say.

        Returns
        -------
        list of str
            Their ids.

        Raises
        ------
        RequestError
            If an item is known already, or the model takes no new ones.
        ContentError, EncoderError
            If the file, a picture or a text cannot be read, or the foundation model is not found.
        """
        return self.take_items(self.read_items(file))

    def read_items(self, file: str | Path, settings: Mapping | None = None) -> NewItems:
        """The slow part of :meth:`add_items`; lists can be made meanwhile, by another thread.

        Parameters
        ----------
        file
            As of :meth:`add_items`.
        settings
            Those that are others for these items, such as ``image_dir`` and ``content_cache``.

        Raises
        ------
        RequestError, ContentError, EncoderError
            As of :meth:`add_items`.
        """
        check_takes_items(self.config, self.model)
        tokens = new_items_in(Path(file), self.catalogue, self.config)
        config = copy.copy(self.config)
        config.final_config_dict = {**self.config.final_config_dict, **(settings or {})}
        return read_new_items(config, Path(file), tokens, self._encoder, self.model)

    def take_items(self, items: NewItems) -> list[str]:
        """The quick part of :meth:`add_items`: put items that :meth:`read_items` has read into the catalogue."""
        model, parts = with_new_items(self.model, self.config, self._parts, items)
        self._take(model, parts, self.catalogue.with_items(items.tokens, items.file, self.config))
        return items.tokens

    # -- lists ------------------------------------------------------------------------------------------------------

    def recommend(self, users: Iterable[str], **options) -> "pd.DataFrame":
        """The best items for users who are known, k for each.

        Parameters
        ----------
        users
            Their ids.
        **options
            Those of :class:`~recbole_perpeft.serving.list_options.ListOptions`; by default ten items that the user has
            not bought.

        Returns
        -------
        pandas.DataFrame
            ``user_id``, ``rank`` (from 1), ``item_id``, ``score``, ``columns`` and ``group``, users as they were given.

        Raises
        ------
        RequestError
            If a user, item or column is unknown, or fewer than k items are left for a user.
        """
        return _one_table(self.lists(users, **options))

    def recommend_new(self, histories: Sequence[Iterable[str]], **options) -> "pd.DataFrame":
        """The best items for users of whom nothing is known but what they bought.

        Their group is found by the rule by which the groups were made. To a backbone that learns each user they are the
        mean of all users.

        Parameters
        ----------
        histories
            The ids of the items that each has bought, oldest first.
        **options
            As of :meth:`recommend`.

        Returns
        -------
        pandas.DataFrame
            As of :meth:`recommend`; ``user_id`` is the number of the history, from 0.

        Raises
        ------
        RequestError
            As :meth:`recommend`; if a history is empty; and of models that are no sequential recommenders, which know
            users by what they have learnt of each.
        """
        return _one_table(self.lists_new(histories, **options))

    def lists_new(self, histories: Sequence[Iterable[str]], **options) -> Iterator[dict[str, np.ndarray]]:
        """As :meth:`recommend_new`, some users at a time, each column an array."""
        if not self._is_sequential:
            raise RequestError(
                f"{self.config['model']} knows users by what it learnt of each in training, and can recommend nothing "
                "to others: train a sequential recommender, or train on with the new users."
            )
        return self._maker.lists_new([self.catalogue.numbers(history) for history in histories], ListOptions(**options))

    def blocks(self, users: Iterable[str] | None = None, **options) -> "Iterator[pd.DataFrame]":
        """As :meth:`recommend`, some users at a time, in bounded memory.

        By default for all users who are known, group by group. A request that cannot be met is refused before the first
        block is computed.
        """
        import pandas as pd

        return map(pd.DataFrame, self.lists(users, **options))

    def lists(self, users: Iterable[str] | None = None, **options) -> Iterator[dict[str, np.ndarray]]:
        """As :meth:`blocks`, each column an array; to make a table is a seventh of the time of a single list."""
        rows = self._all_rows() if users is None else self._rows_of(users)
        return self._maker.lists(self._histories, self._names[rows], rows, ListOptions(**options))

    def history(self, user: str) -> list[str]:
        """The ids of what a user has bought, oldest first.

        Raises
        ------
        RequestError
            If the user is unknown.
        """
        _, items = self._histories.bought.take(self._rows_of([user]))
        return self.catalogue.tokens[items.numpy()].tolist()

    def use_index(self, candidates: int = 256, k: int = 20) -> IndexReport:
        """Look for items by a graph of near ones from now on, instead of going through all of them.

        Worth it for single requests of catalogues of hundreds of thousands of items; lists of many users at a time are
        as fast by all scores (docs/serving.md). Where a filter leaves few items, all scores are gone through.

        Parameters
        ----------
        candidates
            Items that are compared for each user and group; more are slower and find more.
        k
            Length of the lists by which it is measured.

        Returns
        -------
        IndexReport
            How much of the lists by all scores it finds, of some 1,000 users.

        Raises
        ------
        RequestError
            If the model's scores are no inner products, or faiss is missing.
        """
        rows = np.arange(0, len(self.users), max(1, len(self.users) // _MEASURED))
        return self._maker.use_index(self._histories, rows, candidates, k)

    def _all_rows(self) -> np.ndarray:
        """A block of users of one group is scored in one go."""
        rows, groups = np.arange(len(self.users)), getattr(self.model, "user_groups", None)
        return rows if groups is None else rows[groups.cpu().numpy()[self._histories.users].argsort(kind="stable")]

    def _rows_of(self, users: Iterable[str]) -> np.ndarray:
        users = ids_of("users", users)
        if not users:
            raise RequestError("No user is given.")
        unknown = [user for user in users if user not in self._row_of]
        if unknown:
            raise RequestError(
                f"Unknown user {unknown[0]!r}: purchases of {len(self.users):,} users are known. Give a new user by "
                f"what they bought.{nearest(unknown[0], self._row_of)}"
            )
        return np.array([self._row_of[user] for user in users])

    # -- scores -----------------------------------------------------------------------------------------------------

    def scores(self, users: Iterable[str]) -> torch.Tensor:
        """Scores of every item for users who are known, as in the evaluation, ``[n, n_items]``; column 0 is padding.

        Raises
        ------
        RequestError
            If a user is unknown.
        """
        return self._maker.scores(self._histories, self._rows_of(users))


def _one_table(lists: Iterable[dict[str, np.ndarray]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(map(pd.DataFrame, lists), ignore_index=True)
