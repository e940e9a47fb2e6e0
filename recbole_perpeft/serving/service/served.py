"""What is served at a time: a recommender, warm, and what is looked up of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from recbole_perpeft.serving.list_options import number_of_groups
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.serving.service.pictures import pictures_of
from recbole_perpeft.utils.errors import RequestError

Opener = Callable[[], Recommender]


@dataclass(frozen=True)
class Served:
    """One of those that a service has served.

    Attributes
    ----------
    recommender : Recommender
        Its own.
    users : dict of str to None
        Ids of the users who are known, in order.
    title : str or None
        The column that is told of items by default.
    groups : int
        How many there are; 0 of models without.
    pictures : dict of str to Path
        Files by item id.
    number : int
        The how manieth it is, from 1.
    """

    recommender: Recommender
    users: dict[str, None]
    title: str | None
    groups: int
    pictures: dict[str, Path]
    number: int

    @classmethod
    def of(cls, recommender: Recommender, number: int, has_page: bool) -> "Served":
        """Reads what is otherwise read late, so that files may change from now on."""
        catalogue, config = recommender.catalogue, recommender.config
        for name in catalogue.columns:
            catalogue.column(name)
        next(recommender.lists(recommender.users[:1], k=1, seen=True))  # what the first list waits for
        texts = [name for name in config["text_fields"] or ["title"] if name in catalogue.columns]
        groups = number_of_groups(recommender.model)
        pictures = pictures_of(catalogue, config) if has_page else {}
        users = dict.fromkeys(recommender.users)
        return cls(recommender, users, next(iter(texts), None), groups, pictures, number)

    def picture(self, item: str) -> str | None:
        """Where an item's picture is asked for; None, if there is none."""
        return f"/pictures/{quote(item, safe='')}" if item in self.pictures else None

    def knows_item(self, item: str) -> bool:
        """Whether there is an item of this id."""
        catalogue = self.recommender.catalogue
        return item in catalogue and item != catalogue.tokens[0]

    def check_items(self, items: Iterable[str]) -> None:
        """Refuse unknown items at once, without looking for what they may have meant.

        Raises
        ------
        RequestError
            Names the first.
        """
        for item in items:
            if not self.knows_item(item):
                raise RequestError(f"Unknown item {item[:100]!r}: the catalogue has no item of this id.")
