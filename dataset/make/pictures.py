"""Drawing of pictures, many items at a time, at any size.

The product stands in the middle in its colour and motif; the corners hold the brand mark (top right), the tag
of the series (top left) and a swatch of the material (bottom left); the background says what the item is for.
An aspect that is not shown is drawn neutrally. Shapes are signed distances, so that edges come out smooth.
"""

import numpy as np

from dataset.make.aspects import INDEX, N_VALUES
from dataset.make.shapes import glyphs, motif_share, product_distance

# float32 pixels worked on at a time
CHUNK_PIXELS = 1_500_000
# side of a corner tile and half side of the product, as shares of the picture's side
TILE = 0.23
HALF_SIDE = 0.36

NEUTRAL_BACKGROUND = (0.91, 0.91, 0.91)
NEUTRAL_COLOUR = (0.60, 0.60, 0.60)
MOTIF_DARKNESS = 0.25

# one row per value of the aspect, RGB
COLOURS = np.array(
    [
        (0.85, 0.13, 0.13),
        (0.96, 0.55, 0.10),
        (0.95, 0.88, 0.15),
        (0.15, 0.65, 0.20),
        (0.10, 0.80, 0.85),
        (0.12, 0.25, 0.85),
        (0.50, 0.15, 0.75),
        (0.98, 0.50, 0.78),
    ],
    dtype=np.float32,
)
# the background above and below the horizon
SCENES = np.array(
    [
        [(0.80, 0.90, 1.00), (0.72, 0.72, 0.76)],  # travel
        [(0.84, 0.96, 0.98), (0.66, 0.88, 0.62)],  # garden
        [(1.00, 0.95, 0.80), (0.95, 0.80, 0.62)],  # kitchen
        [(0.90, 0.90, 0.96), (0.62, 0.66, 0.80)],  # office
        [(0.70, 0.80, 0.72), (0.62, 0.56, 0.44)],  # camping
        [(0.60, 0.86, 1.00), (0.98, 0.92, 0.68)],  # beach
        [(1.00, 0.86, 0.92), (0.90, 0.74, 0.94)],  # nursery
        [(0.98, 0.98, 0.98), (0.52, 0.50, 0.50)],  # studio
    ],
    dtype=np.float32,
)
SWATCHES = np.array(
    [
        [(0.76, 0.66, 0.44), (0.52, 0.44, 0.28)],  # canvas
        [(0.96, 0.93, 0.84), (0.78, 0.74, 0.62)],  # linen
        [(0.45, 0.22, 0.10), (0.30, 0.13, 0.05)],  # leather
        [(0.42, 0.46, 0.52), (0.32, 0.36, 0.44)],  # felt
        [(0.84, 0.58, 0.34), (0.46, 0.28, 0.12)],  # cork
        [(0.78, 0.86, 0.40), (0.50, 0.62, 0.18)],  # bamboo
        [(0.80, 0.84, 0.88), (0.22, 0.26, 0.32)],  # steel
        [(1.00, 1.00, 1.00), (0.10, 0.30, 0.64)],  # enamel
    ],
    dtype=np.float32,
)
# ink and ground
MARKS = np.array(
    [
        [(0.10, 0.10, 0.10), (1.00, 1.00, 1.00)],  # disc
        [(1.00, 1.00, 1.00), (0.80, 0.10, 0.10)],  # ring
        [(1.00, 1.00, 1.00), (0.05, 0.45, 0.20)],  # cross
        [(0.95, 0.80, 0.10), (0.10, 0.10, 0.10)],  # triangle
        [(0.10, 0.20, 0.70), (1.00, 1.00, 1.00)],  # square
        [(0.85, 0.15, 0.55), (1.00, 1.00, 1.00)],  # diamond
        [(1.00, 1.00, 1.00), (0.15, 0.20, 0.50)],  # crescent
        [(0.10, 0.10, 0.10), (0.95, 0.75, 0.15)],  # twinbar
    ],
    dtype=np.float32,
)
TAGS = np.array(
    [
        [(0.10, 0.20, 0.55), (1.00, 1.00, 1.00)],  # Fjord
        [(0.20, 0.45, 0.15), (0.95, 0.90, 0.40)],  # Alder
        [(0.50, 0.10, 0.10), (0.95, 0.80, 0.70)],  # Kestrel
        [(0.10, 0.50, 0.50), (0.05, 0.10, 0.10)],  # Juniper
        [(0.95, 0.70, 0.10), (0.80, 0.20, 0.10)],  # Solstice
        [(0.05, 0.05, 0.10), (0.60, 0.80, 1.00)],  # Harbour
        [(0.55, 0.20, 0.60), (0.90, 0.75, 0.95)],  # Meridian
        [(0.75, 0.85, 0.85), (0.40, 0.55, 0.60)],  # Tundra
    ],
    dtype=np.float32,
)


def _pixel_centres(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x (to the right) and y (down) in [0, 1], each of shape [side, side]."""
    axis = ((np.arange(side) + 0.5) / side).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _two_tone(tones: np.ndarray, motifs: tuple[str, ...], side: int) -> np.ndarray:
    """Tiles [n_values, side, side, 3] in two tones each, mixed by a pattern."""
    x, y = _pixel_centres(side)
    share = np.stack([motif_share(motif, 2 * x - 1, 2 * y - 1, 2 / side) for motif in motifs])[..., None]
    return tones[:, 0, None, None] * (1 - share) + tones[:, 1, None, None] * share


def _corner_tiles(side: int) -> dict[str, tuple[np.ndarray, slice, slice]]:
    """For every corner aspect its tiles [n_values, tile, tile, 3] and their rows and columns."""
    tile = max(6, round(TILE * side))
    near, far = slice(0, tile), slice(side - tile, side)
    patterns = ("banded", "pinstriped", "diagonal", "checked") * 2
    x, y = _pixel_centres(tile)
    ink = np.stack(glyphs(2 * x - 1, 2 * y - 1, 2 / tile))
    ink = ink[..., None]
    brands = MARKS[:, 1, None, None] * (1 - ink) + MARKS[:, 0, None, None] * ink
    return {
        "brand": (brands, near, far),
        "series": (_two_tone(TAGS, ("half",) * len(TAGS), tile), near, near),
        "material": (_two_tone(SWATCHES, patterns, tile), far, near),
    }


def _draw_chunk(values: np.ndarray, shown: np.ndarray, jitter: np.ndarray, side: int) -> np.ndarray:
    """Draw a few items as floats [n, side, side, 3]; see `draw`."""
    n_items = len(values)
    x, y = _pixel_centres(side)

    scenes = np.where(
        shown[:, INDEX["use"], None, None], SCENES[values[:, INDEX["use"]]], np.float32(NEUTRAL_BACKGROUND)
    )  # [n, 2, 3]
    below = (y > 0.62).astype(np.float32)[None, :, :, None]
    pictures = scenes[:, 0, None, None] * (1 - below) + scenes[:, 1, None, None] * below

    # coordinates of the product, about [-1, 1]: [n, side, side]
    half_side = HALF_SIDE * (1 + 0.06 * jitter[:, 2, None, None])
    p = (x - 0.5 - 0.02 * jitter[:, 0, None, None]) / half_side
    q = (y - 0.52 - 0.02 * jitter[:, 1, None, None]) / half_side
    pixel = 1 / (half_side * side)  # a pixel's side in the product's coordinates: [n, 1, 1]

    colours = np.where(shown[:, INDEX["colour"], None], COLOURS[values[:, INDEX["colour"]]], np.float32(NEUTRAL_COLOUR))
    colours = np.clip(colours * (1 + 0.10 * jitter[:, 3:6]), 0, 1)  # [n, 3]

    inside = np.empty((n_items, side, side), dtype=np.float32)
    dark = np.zeros_like(inside)
    # what it is must always be drawn; an item whose product is not shown is drawn as a plain block
    products = np.where(shown[:, INDEX["product"]], values[:, INDEX["product"]], N_VALUES[INDEX["product"]])
    motifs = np.where(shown[:, INDEX["motif"]], values[:, INDEX["motif"]], 0)
    for product in np.unique(products):
        rows = products == product
        inside[rows] = np.clip(0.5 - product_distance(product, p[rows], q[rows]) / pixel[rows], 0, 1)
    for motif in np.unique(motifs):
        rows = motifs == motif
        dark[rows] = motif_share(motif, p[rows], q[rows], pixel[rows])
    shade = 1 - dark * (1 - MOTIF_DARKNESS)  # [n, side, side]
    body = colours[:, None, None] * shade[..., None]
    pictures = pictures * (1 - inside[..., None]) + body * inside[..., None]
    pictures *= 1 + 0.06 * jitter[:, 6, None, None, None]

    for name, (tiles, rows, columns) in _corner_tiles(side).items():
        here = shown[:, INDEX[name]]
        pictures[here, rows, columns] = tiles[values[here, INDEX[name]]]
    return pictures


def draw(values: np.ndarray, shown: np.ndarray, jitter: np.ndarray, side: int) -> np.ndarray:
    """Draw the pictures of some items.

    Parameters
    ----------
    values : ndarray of int, shape [n_items, n_aspects]
        Values of the items.
    shown : ndarray of bool, shape [n_items, n_aspects] or [n_aspects]
        Which aspects the pictures show; the others are drawn neutrally.
    jitter : ndarray of float, shape [n_items, 7]
        Numbers in [-1, 1] that move, scale and tint the product.
    side : int
        Side of the square pictures in pixels.

    Returns
    -------
    ndarray of uint8, shape [n_items, side, side, 3]
        The pictures, RGB. An item's picture does not depend on the other items.
    """
    shown = np.broadcast_to(shown, values.shape)
    jitter = jitter.astype(np.float32)
    step = max(1, CHUNK_PIXELS // side**2)
    pictures = np.empty((len(values), side, side, 3), dtype=np.uint8)
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        floats = _draw_chunk(values[rows], shown[rows], jitter[rows], side)
        pictures[rows] = np.round(255 * np.clip(floats, 0, 1))
    return pictures
