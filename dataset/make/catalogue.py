"""A catalogue: items with their aspects, titles and pictures."""

from dataclasses import dataclass

import numpy as np

from dataset.make.aspects import ASPECTS, INDEX, N_VALUES, PICTURE, TITLE, shown_in
from dataset.make.pictures import draw
from dataset.make.titles import write_titles

N_JITTER = 7


@dataclass(frozen=True)
class Catalogue:
    """Items of a synthetic shop.

    Attributes
    ----------
    values : ndarray of int, shape [n_items, n_aspects]
        Value of every aspect of every item.
    titles : list of str
        What the shop writes: the aspects that belong in a title, nothing of the others.
    jitter : ndarray of float, shape [n_items, 7]
        How the pictures differ beyond the aspects.
    """

    values: np.ndarray
    titles: list[str]
    jitter: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def item_ids(self) -> list[str]:
        """Tokens of the items: ``i00001`` and on."""
        return [f"i{number:05d}" for number in range(1, len(self) + 1)]

    @property
    def categories(self) -> list[str]:
        """What every item is, by the name of its product."""
        products = list(ASPECTS[INDEX["product"]].values)
        return [products[value] for value in self.values[:, INDEX["product"]]]

    def pictures(self, side: int, items: slice = slice(None)) -> np.ndarray:
        """Draw the shop's pictures: the aspects that belong in a picture, the others neutral.

        Parameters
        ----------
        side : int
            Side of the square pictures in pixels.
        items : slice
            Which items to draw.

        Returns
        -------
        ndarray of uint8, shape [n, side, side, 3]
            The pictures.
        """
        return draw(self.values[items], np.array(shown_in(PICTURE)), self.jitter[items], side)


def draw_values(n_items: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the aspects of some items, independent and uniform, and the jitter of their pictures.

    Parameters
    ----------
    n_items : int
        Number of items.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    values : ndarray of int, shape [n_items, n_aspects]
        Values of the aspects.
    jitter : ndarray of float, shape [n_items, 7]
        Numbers in [-1, 1].
    """
    return rng.integers(0, N_VALUES, size=(n_items, len(N_VALUES))), rng.uniform(-1, 1, size=(n_items, N_JITTER))


def make_catalogue(n_items: int, seed: int) -> Catalogue:
    """Make a shop's catalogue.

    Parameters
    ----------
    n_items : int
        Number of items.
    seed : int
        The same seed and size give the same catalogue.

    Returns
    -------
    Catalogue
        The items.
    """
    rng = np.random.default_rng([seed, 1])
    values, jitter = draw_values(n_items, rng)
    return Catalogue(values=values, titles=write_titles(values, np.array(shown_in(TITLE)), rng), jitter=jitter)
