"""The vocabulary of the catalogue: which aspects an item has, which values, and the words that name them."""

from dataclasses import dataclass

PICTURE = "picture"
TITLE = "title"


@dataclass(frozen=True)
class Aspect:
    """One property of an item.

    Attributes
    ----------
    name : str
        Name of the aspect.
    values : dict of str to tuple of str
        For each value, the words that may stand for it in a title.
    front : tuple of str
        Patterns with one ``{}`` for a mention before the noun; empty if the aspect is never named there.
    tail : tuple of str
        Patterns with one ``{}`` for a mention after the noun.
    shown_in : tuple of str
        Where a shop's catalogue shows the aspect: ``"picture"``, ``"title"`` or both.
    """

    name: str
    values: dict[str, tuple[str, ...]]
    front: tuple[str, ...]
    tail: tuple[str, ...]
    shown_in: tuple[str, ...]


def _same(*words: str) -> dict[str, tuple[str, ...]]:
    """Values that have one word each, which is also their name."""
    return {word: (word,) for word in words}


ASPECTS: tuple[Aspect, ...] = (
    Aspect(
        name="product",
        values={
            "bag": ("bag", "satchel"),
            "mug": ("mug", "cup"),
            "lamp": ("lamp", "light"),
            "tent": ("tent", "canopy"),
            "bottle": ("bottle", "flask"),
            "hat": ("hat", "cap"),
            "cushion": ("cushion", "pillow"),
            "umbrella": ("umbrella", "parasol"),
            "shirt": ("shirt", "top"),
            "kite": ("kite", "glider"),
        },
        front=(),
        tail=(),
        shown_in=(PICTURE, TITLE),
    ),
    Aspect(
        name="motif",
        values={
            "plain": ("plain", "solid"),
            "banded": ("banded", "hooped"),
            "pinstriped": ("pinstriped", "striped"),
            "diagonal": ("diagonal", "slanted"),
            "dotted": ("dotted", "spotted"),
            "checked": ("checked", "chequered"),
            "wavy": ("wavy", "rippled"),
            "zigzag": ("zigzag", "chevron"),
        },
        front=("{}",),
        tail=("{} pattern", "with {} print"),
        shown_in=(PICTURE,),
    ),
    Aspect(
        name="colour",
        values={
            "red": ("red", "crimson"),
            "orange": ("orange", "tangerine"),
            "yellow": ("yellow", "lemon"),
            "green": ("green", "emerald"),
            "cyan": ("cyan", "turquoise"),
            "blue": ("blue", "cobalt"),
            "violet": ("violet", "purple"),
            "pink": ("pink", "magenta"),
        },
        front=("{}",),
        tail=("in {}", "{} colour"),
        shown_in=(PICTURE,),
    ),
    Aspect(
        name="brand",
        values=_same("disc", "ring", "cross", "triangle", "square", "diamond", "crescent", "twinbar"),
        front=("{} mark",),
        tail=("{} logo", "with {} mark", "{} brand"),
        shown_in=(PICTURE,),
    ),
    Aspect(
        name="material",
        values=_same("canvas", "linen", "leather", "felt", "cork", "bamboo", "steel", "enamel"),
        front=("{}", "fine {}"),
        tail=("in {}", "made of {}", "quality {}"),
        shown_in=(TITLE,),
    ),
    Aspect(
        name="use",
        values={
            "travel": ("travel", "journey"),
            "garden": ("garden", "patio"),
            "kitchen": ("kitchen", "dining"),
            "office": ("office", "desk"),
            "camping": ("camping", "hiking"),
            "beach": ("beach", "seaside"),
            "nursery": ("nursery", "children"),
            "studio": ("studio", "artist"),
        },
        front=("{}",),
        tail=("for {}", "{} use"),
        shown_in=(TITLE,),
    ),
    Aspect(
        name="series",
        values=_same("Fjord", "Alder", "Kestrel", "Juniper", "Solstice", "Harbour", "Meridian", "Tundra"),
        front=("{}",),
        tail=("Series {}", "{} collection", "{} range"),
        shown_in=(TITLE,),
    ),
)

NAMES: tuple[str, ...] = tuple(aspect.name for aspect in ASPECTS)
INDEX: dict[str, int] = {name: column for column, name in enumerate(NAMES)}
N_VALUES: tuple[int, ...] = tuple(len(aspect.values) for aspect in ASPECTS)

# words that say nothing of an aspect
GENERIC_NOUNS: tuple[str, ...] = ("item", "piece", "article")
FILLERS: tuple[str, ...] = (
    "classic",
    "padded",
    "everyday",
    "lightweight",
    "handmade",
    "compact",
    "premium",
    "modern",
    "original",
    "sturdy",
    "little",
    "large",
)
CLOSINGS: tuple[str, ...] = (
    "gift boxed",
    "new edition",
    "best seller",
    "limited offer",
    "size M",
    "two year warranty",
)


def shown_in(place: str) -> list[bool]:
    """Which aspects a shop's catalogue shows in a place.

    Parameters
    ----------
    place : {"picture", "title"}
        The place.

    Returns
    -------
    list of bool
        One entry per aspect, in the order of `ASPECTS`.
    """
    return [place in aspect.shown_in for aspect in ASPECTS]


def words_of(name: str) -> set[str]:
    """All words, in lower case, that name a value of an aspect."""
    return {word.lower() for words in ASPECTS[INDEX[name]].values.values() for word in words}
