"""Shapes and patterns as functions of coordinates: products, motifs and brand marks.

Coordinates p (to the right) and q (down) are about -1 to 1. A distance is negative inside the shape.
"""

from collections.abc import Callable

import numpy as np

from dataset.make.aspects import ASPECTS, INDEX

MOTIFS = tuple(ASPECTS[INDEX["motif"]].values)


def _box(p: np.ndarray, q: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    across = np.maximum(left - p, p - right)
    return np.maximum(across, np.maximum(top - q, q - bottom))


def _disc(p: np.ndarray, q: np.ndarray, centre_p: float, centre_q: float, radius: float) -> np.ndarray:
    return np.hypot(p - centre_p, q - centre_q) - radius


def _ring(p: np.ndarray, q: np.ndarray, centre_p: float, centre_q: float, radius: float, width: float) -> np.ndarray:
    return np.abs(_disc(p, q, centre_p, centre_q, radius)) - width / 2


def _trapezium(p: np.ndarray, q: np.ndarray, top: float, bottom: float, at_top: float, at_bottom: float) -> np.ndarray:
    """Symmetric about p = 0, with half widths `at_top` and `at_bottom`."""
    slope = (at_bottom - at_top) / (bottom - top)
    side = (np.abs(p) - at_top - slope * (q - top)) / np.sqrt(1 + slope**2)
    return np.maximum(side, np.maximum(top - q, q - bottom))


def _union(*distances: np.ndarray) -> np.ndarray:
    return np.minimum.reduce(distances)


def _bag(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    handle = np.maximum(_ring(p, q, 0, -0.35, 0.45, 0.16), q + 0.3)
    return _union(_box(p, q, -0.9, -0.4, 0.9, 0.8), handle)


def _mug(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return _union(_box(p, q, -0.85, -0.75, 0.4, 0.8), _ring(p, q, 0.45, 0, 0.4, 0.2))


def _lamp(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    foot = _box(p, q, -0.5, 0.78, 0.5, 0.95)
    return _union(_trapezium(p, q, -0.95, 0.2, 0.4, 0.95), _box(p, q, -0.1, 0.1, 0.1, 0.9), foot)


def _tent(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    door = _trapezium(p, q, 0.1, 1.2, 0.0, 0.4)
    return np.maximum(_trapezium(p, q, -0.85, 0.8, 0.0, 1.05), -door)


def _bottle(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    shoulder = _trapezium(p, q, -0.5, 0.0, 0.18, 0.54)
    return _union(_box(p, q, -0.5, -0.1, 0.5, 0.95), shoulder, _box(p, q, -0.18, -0.95, 0.18, -0.4))


def _hat(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return _union(np.maximum(_disc(p, q, 0, 0.35, 0.72), q - 0.4), _box(p, q, -1.05, 0.35, 1.05, 0.6))


def _cushion(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    # a square with sides drawn in
    return np.maximum(np.abs(p) - 0.72 - 0.22 * q**2, np.abs(q) - 0.72 - 0.22 * p**2) / 1.1


def _umbrella(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    roof = np.maximum(_disc(p, q, 0, 0.1, 0.98), q - 0.1)
    return _union(roof, _box(p, q, -0.07, 0, 0.07, 0.85), _box(p, q, -0.07, 0.75, 0.4, 0.95))


def _shirt(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    cloth = _union(_box(p, q, -0.55, -0.8, 0.55, 0.9), _box(p, q, -1.05, -0.8, 1.05, -0.2))
    return np.maximum(cloth, -_disc(p, q, 0, -0.85, 0.28))


def _kite(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    body = (np.abs(p) / 0.75 + np.abs(q + 0.15) / 0.85 - 1) * 0.56
    tail = _union(_disc(p, q, 0.12, 0.82, 0.12), _disc(p, q, -0.05, 1.05, 0.1))
    return _union(body, tail)


def _block(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return _box(p, q, -0.6, -0.6, 0.6, 0.6)


_PRODUCTS: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    _bag,
    _mug,
    _lamp,
    _tent,
    _bottle,
    _hat,
    _cushion,
    _umbrella,
    _shirt,
    _kite,
    _block,
)


def product_distance(product: int, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Signed distance to a product's outline.

    Parameters
    ----------
    product : int
        Value of the aspect "product", or one more than the last for a nondescript block.
    p, q : ndarray, shape [...]
        Coordinates.

    Returns
    -------
    ndarray, shape [...]
        About the distance, negative inside.
    """
    return _PRODUCTS[product](p, q)


def _stripes(t: np.ndarray, period: float, pixel: float | np.ndarray) -> np.ndarray:
    """Smooth stripes of equal width along t, as a share in [0, 1]."""
    to_edge = np.abs((t / period) % 1 - 0.5) - 0.25
    return np.clip(0.5 - to_edge * period / pixel, 0, 1)


def motif_share(motif: int | str, p: np.ndarray, q: np.ndarray, pixel: float | np.ndarray) -> np.ndarray:
    """How much of every pixel is covered by the dark part of a motif.

    Parameters
    ----------
    motif : int or str
        Value of the aspect "motif" by index or by name, or ``"half"`` for one dark half.
    p, q : ndarray, shape [...]
        Coordinates.
    pixel : float or ndarray
        Side of a pixel in these coordinates.

    Returns
    -------
    ndarray, shape [...]
        Shares in [0, 1].
    """
    name = motif if isinstance(motif, str) else MOTIFS[motif]
    period = 0.5
    if name == "plain":
        return np.zeros_like(p)
    if name == "half":
        return np.clip(0.5 - (q - p) / pixel, 0, 1)
    if name == "banded":
        return _stripes(q, period, pixel)
    if name == "pinstriped":
        return _stripes(p, period, pixel)
    if name == "diagonal":
        return _stripes((p + q) * 0.7071, period, pixel)
    if name == "dotted":
        to_dot = np.hypot((p / period) % 1 - 0.5, (q / period) % 1 - 0.5) - 0.3
        return np.clip(0.5 - to_dot * period / pixel, 0, 1)
    if name == "checked":
        across, down = _stripes(p, 0.9, pixel), _stripes(q, 0.9, pixel)
        return across + down - 2 * across * down
    if name == "wavy":
        return _stripes(q + 0.14 * np.sin(6 * p), 0.6, pixel)
    if name == "zigzag":
        return _stripes(p + 0.9 * np.abs((q / 0.9) % 1 - 0.5), 0.6, pixel)
    raise ValueError(f"motif {motif!r} is not known: use one of {(*MOTIFS, 'half')}")


def glyphs(p: np.ndarray, q: np.ndarray, pixel: float) -> list[np.ndarray]:
    """Draw all brand marks.

    Parameters
    ----------
    p, q : ndarray, shape [side, side]
        Coordinates of one corner tile, -1 to 1.
    pixel : float
        Side of a pixel in these coordinates.

    Returns
    -------
    list of ndarray, shape [side, side]
        The share of ink of every pixel, one array per value of the aspect "brand".
    """
    distances = [
        _disc(p, q, 0, 0, 0.62),
        _ring(p, q, 0, 0, 0.55, 0.32),
        _union(_box(p, q, -0.75, -0.2, 0.75, 0.2), _box(p, q, -0.2, -0.75, 0.2, 0.75)),
        _trapezium(p, q, -0.7, 0.65, 0.0, 0.8),
        np.maximum(_box(p, q, -0.7, -0.7, 0.7, 0.7), -_box(p, q, -0.35, -0.35, 0.35, 0.35)),
        (np.abs(p) + np.abs(q) - 0.85) * 0.7071,
        np.maximum(_disc(p, q, 0, 0, 0.75), -_disc(p, q, 0.35, -0.15, 0.6)),
        _union(_box(p, q, -0.65, -0.75, -0.2, 0.75), _box(p, q, 0.2, -0.75, 0.65, 0.75)),
    ]
    return [np.clip(0.5 - distance / pixel, 0, 1) for distance in distances]
