"""What a run is made of: its sizes, as its settings, its encoder's config and the numbers of items and users say."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, exp

import numpy as np

from recbole_perpeft.config.choices import encoder_reads
from recbole_perpeft.data.encoding_windows import FEWEST, GroupPurchases, encoding_of
from recbole_perpeft.data.user_batch import users_of_a_batch
from recbole_perpeft.model.causal import lengths_read
from recbole_perpeft.model.conditioning import modules_of
from recbole_perpeft.model.content_loss import TABLES
from recbole_perpeft.model.last_features import LastFeatures
from recbole_perpeft.model.purchase_term import APART, NEIGHBOURS
from recbole_perpeft.utils.errors import EncoderError


@dataclass(frozen=True)
class Tower:
    """A transformer that reads pictures or titles.

    Attributes
    ----------
    tokens : int
        Positions of an item.
    width, inner, heads, layers : int
        Of its states, of its feed-forward layers, of its attention, and how many layers it has.
    side : int
        Pixels of a picture; 0 for texts.
    feature : int
        Width of what it gives.
    parameters : int
        Numbers of its layers and embeddings.
    """

    tokens: int
    width: int
    inner: int
    heads: int
    layers: int
    side: int
    feature: int
    parameters: int

    @property
    def layer_operations(self) -> int:
        """Floating-point operations of a layer for an item."""
        d, t = self.width, self.tokens
        return 2 * t * (4 * d * d + 2 * d * self.inner) + 4 * t * t * d

    @property
    def first_operations(self) -> int:
        """Those before the first layer: of a picture's patches."""
        return 2 * 3 * self.side**2 * self.width

    @property
    def token_bytes(self) -> int:
        """What a layer's backward pass needs of a position, casts and masks of dropout among it."""
        return 4 * (16 * self.width + 6 * self.inner + 4 * self.heads * self.tokens)


def tower_of(config, modality: str, tokens_of_a_title: int, feature: int | None, setting: str) -> Tower:
    """The tower that a transformers ``config`` describes.

    Parameters
    ----------
    config
        Of the tower alone.
    feature
        Width of what it gives; None: of its states.
    setting
        That names the encoder.

    Raises
    ------
    EncoderError
        If it is no transformer with layers of one width, of which alone the cost is known.
    """
    names = ["hidden_size", "num_hidden_layers", "num_attention_heads"]
    names += ["image_size", "patch_size"] if modality == "image" else []
    missing = [name for name in names if not isinstance(getattr(config, name, None), int)]
    if missing:
        raise EncoderError(
            f"{setting}: {type(config).__name__} has no number {missing[0]}: the cost of transformers alone can be "
            "estimated. Give an encoder whose towers are such (CLIP, SigLIP, ViT, BERT and their like)."
        )
    d, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", None) or 4 * d
    if modality == "image":
        side, patch = config.image_size, config.patch_size
        tokens, embeddings = (side // patch) ** 2 + 1, 3 * patch * patch * d
    else:
        side, tokens, embeddings = 0, tokens_of_a_title, config.vocab_size * d
    parameters = layers * (4 * d * d + 2 * d * inner) + embeddings
    return Tower(tokens, d, inner, config.num_attention_heads, layers, side, feature or d, parameters)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a run.

    Attributes
    ----------
    items, users, purchases : int
        Of the catalogue, who train, and of each of them in training.
    towers : dict
        :class:`Tower` by modality.
    settings : Mapping
        Those of the run.
    value_bytes : int
        Of a number in the encoder's precision.
    """

    items: int
    users: int
    purchases: int
    towers: dict[str, Tower]
    settings: Mapping
    value_bytes: int

    @property
    def method(self) -> str:
        """``peft_type``, in capitals; ``NONE`` without any."""
        return str(self.settings["peft_type"] or "NONE").upper()

    @property
    def is_frozen(self) -> bool:
        """Whether no step runs the foundation model."""
        return not encoder_reads(self.settings, "peft_layers")

    @property
    def groups(self) -> int:
        """Of users."""
        return self.settings["num_groups"]

    @property
    def width(self) -> int:
        """Of item embeddings."""
        return self.settings["hidden_size"]

    @property
    def states(self) -> int:
        """Hidden states that IISAN reads of each tower."""
        wanted = (self.settings["peft_config"] or {}).get("states", 7)
        return min(wanted, 1 + min(tower.layers for tower in self.towers.values()))

    def upper(self, tower: Tower) -> int:
        """Layers of a tower that run at every encoding."""
        if self.is_frozen:
            return 0
        return min(self.settings["peft_layers"] or tower.layers, tower.layers)

    @property
    def compared_width(self) -> int:
        """Of the vectors by which the content term compares items."""
        return sum(tower.feature for tower in self.towers.values())

    @property
    def near_items(self) -> float:
        """How many items were bought near one, if all are bought alike: those that the purchase term counts."""
        pairs = self.users * self.purchases * min(self.purchases - 1, 2 * APART) / self.items
        return min(NEIGHBOURS, self.items * (1 - exp(-pairs / self.items)))

    @property
    def read_lengths(self) -> dict[int, float]:
        """Positions that a ranking reads of users' sequences, and of which part of them each.

        As if a length of n had the probability of n in an exponential distribution: of the demo, amazon-scientific and
        ml-100k, means are within 15 % of what is read.
        """
        shares, longer = {}, 1.0  # of the sequences that are longer than the lengths so far
        *lengths, longest = lengths_read(self.settings["MAX_ITEM_LIST_LENGTH"])
        for length in lengths:
            rest = exp(-length / self.purchases)
            shares[length], longer = longer - rest, rest
        return {**shares, longest: longer}

    def batches(self, groups: int) -> "Batches":
        """Those of an epoch in which users are in so many groups of one size: 1 in stage 1."""
        of_a_group = ceil(self.users / groups)
        most = self.settings["users_per_batch"] or users_of_a_batch(max(self.purchases - 1, 1))
        number, most = ceil(of_a_group / most), min(most, of_a_group)
        together, kept, share = self.settings["batches_per_encoding"], self.settings["encoding_batch_size"], 1.0
        if together is None and self.is_frozen:
            together = 1
        elif together is None:
            buyers = of_a_group * self.purchases / self.items  # of each item, if all are bought alike, rounded so or so
            numbers = np.array([int(buyers), int(buyers) + 1])
            of_items = self.items * np.abs(numbers[::-1] - buyers)
            drawn = 1 - (1 - 1 / self.items) ** (self.settings["num_negatives"] or 0)
            one = GroupPurchases(of_a_group, numbers, of_items, drawn)
            together, share = encoding_of([one] * groups, most, self.items)
            if not (self.settings["eval_step"] > 0 and self.last_features <= TABLES):
                share = 1.0
            if kept is None and min(together, number) > FEWEST:
                kept = self._different_items(most, FEWEST)
        together = min(together, number)
        items, encoded = (self._different_items(most, batches) for batches in (1, together))
        return Batches(groups * number, most, items, max(1, round(share * encoded)), together, kept, share)

    @property
    def last_features(self) -> int:
        """Bytes of what the modules last saw of all items."""
        modules, _ = modules_of(self.settings["personalised_by"], self.groups)
        return LastFeatures.size(self.items, self.compared_width, modules)

    def _different_items(self, users: int, batches: int) -> int:
        """Of so many batches, if all are bought alike."""
        drawn = batches * (users * self.purchases + (self.settings["num_negatives"] or 0))
        return max(1, round(self.items * (1 - exp(-drawn / self.items))))


@dataclass(frozen=True)
class Batches:
    """What trains in an epoch.

    Attributes
    ----------
    number : int
        Of batches, each a step.
    users, items : int
        Of a batch: who train, and different items.
    encoded : int
        Different items of the batches that are encoded together, as far as they are encoded.
    together : int
        How many batches these are: no more than a group has.
    kept : int or None
        Items whose way through the encoder is in memory at a time; None: all.
    share : float
        Of the different items that is encoded.
    """

    number: int
    users: int
    items: int
    encoded: int
    together: int
    kept: int | None
    share: float

    def __str__(self) -> str:
        return f"{self.number:,}; {self.encoded:,} items encoded for {self.together} of them"
