"""How much a caller may ask for."""

from dataclasses import dataclass, fields

from recbole_perpeft.utils.errors import RequestError


@dataclass(frozen=True)
class Limits:
    """What a request may be at most.

    Attributes
    ----------
    k : int
        Items of a list.
    history : int
        Items of a new user's history.
    items : int
        New items at a time.
    body : int
        Bytes of a request's body.
    pixels : int
        Of a new item's picture.
    waiting : int
        Requests for lists that wait; further ones are told to come again.

    Raises
    ------
    RequestError
        If one is less than 1.
    """

    k: int = 200
    history: int = 1000
    items: int = 100
    body: int = 8 * 2**20
    pixels: int = 2**24
    waiting: int = 1000

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise RequestError(f"max_{field.name}: {getattr(self, field.name)} lets nothing in: give 1 or more.")
