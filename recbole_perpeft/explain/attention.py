"""Which words of a title and which patches of a picture a tower attends to, under a group's module.

What is shown is the attention of the tower's last layer at the position that its feature reads, mean over the heads.
The last layer is the only one whose attention goes into the feature directly, and modules adapt the top layers; a
rollout would multiply it with the attention of the frozen layers below, which is the same for every group.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch
from torch import nn

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.last_layer import at_position
from recbole_perpeft.encoder.item_encoder import ItemEncoder
from recbole_perpeft.encoder.peft.adapters import PeftItemEncoder
from recbole_perpeft.serving.absent_encoder import AbsentItemEncoder

_MOST_PREFIX = 8  # positions before the patches: a class token, registers
_CLOSE = 0.05  # of 1, sums of attention in bf16


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text that are no special ones.

    Attributes
    ----------
    places
        Their positions in the encoder's input, ``[n]``.
    pieces
        What they are, in the text's own letters where the tokenizer tells these.
    """

    places: np.ndarray
    pieces: list[str]


def why_no_attention(encoder: ItemEncoder) -> str | None:
    """Why there is no attention that a module moves; None if there is."""
    if isinstance(encoder, PeftItemEncoder):
        return None
    if isinstance(encoder, AbsentItemEncoder):
        return "a bundle holds no foundation model. Give the checkpoint that it was exported from."
    return (
        f"{type(encoder).__name__} leaves the foundation model's layers as they are: they attend to the same for every "
        "group. What differs is what is made of their states."
    )


def tokens_of(foundation: FoundationModel, text: str, ids: np.ndarray) -> Tokens:
    """The tokens of an item's text.

    Parameters
    ----------
    text
        As the encoder was given it.
    ids
        Of its tokens, as the content has them, ``[n]`` without padding.
    """
    tokenizer = foundation.tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    places = np.array([place for place, token in enumerate(ids.tolist()) if token not in special], dtype=np.int64)
    pieces = [tokenizer.decode([int(ids[place])]) for place in places]
    if tokenizer.is_fast:
        read = tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=foundation.max_text_length)
        if read["input_ids"][: len(ids)] == ids.tolist():
            pieces = [text[slice(*read["offset_mapping"][place])] for place in places]
    return Tokens(places, pieces)


class Attention:
    """Reads the attention of an encoder's towers.

    Parameters
    ----------
    encoder
        A :class:`~recbole_perpeft.encoder.peft.adapters.PeftItemEncoder`. Its foundation model computes attention by
        plain products from now on: fused attention gives no weights.
    """

    def __init__(self, encoder: PeftItemEncoder):
        self._encoder, self._foundation = encoder.eval(), encoder.foundation
        self._foundation.plain_attention()

    @torch.no_grad()
    def of_tokens(self, item: int, tokens: Tokens, group: int) -> np.ndarray | None:
        """What each of an item's ``tokens`` has of the attention, ``[n]`` of sum 1; None if there is none to read.

        Special tokens are left out, and the rest sums to one: much of the attention rests on the first or last token,
        whatever the text.
        """
        weights = self._weights("text", item, group)
        if weights is None or not len(tokens.places) or len(weights) <= tokens.places.max():
            return None
        return _shares(weights[tokens.places])

    @torch.no_grad()
    def of_patches(self, item: int, group: int) -> np.ndarray | None:
        """What each patch of an item's picture has, ``[rows, columns]`` of sum 1; None if the tower has no patches."""
        weights = self._weights("image", item, group)
        if weights is None:
            return None
        side = isqrt(len(weights))
        if side < 2 or len(weights) - side**2 > _MOST_PREFIX:
            return None
        return _shares(weights[len(weights) - side**2 :].reshape(side, side))

    def _weights(self, modality: str, item: int, group: int) -> np.ndarray | None:
        """Attention of the position that is read to all positions, mean over the heads, ``[positions]``."""
        foundation = self._foundation
        if modality not in foundation.modalities:
            return None
        batch = self._encoder.content.batch(torch.tensor([item]), [modality])
        dtype = self._encoder.item_features.dtype
        with (
            self._encoder.activate(group),
            torch.autocast(foundation.device.type, dtype, enabled=dtype != torch.float32),
            _watching(foundation.tower_modules(modality).values()) as seen,
        ):
            foundation.encode(modality, batch)
        if not seen:
            return None
        weights = seen[-1].float()  # [1, queries, positions]
        last = foundation.last_layers.get(modality)
        if weights.shape[1] == 1:  # attention pooling: one query of its own
            read = weights
        elif last is not None:
            read = at_position(weights, last.index(batch))
        else:  # the feature is a mean over positions
            real = batch.get("attention_mask") if modality == "text" else None
            read = weights[:, real[0].bool()] if real is not None else weights
        return read.mean(dim=1)[0].cpu().numpy()


@contextmanager
def _watching(modules) -> Iterator[list[torch.Tensor]]:
    """Collect the attention weights that modules give beside their outputs, mean over the heads, in their order.

    No architecture is known by its name: they are what has a row for each query, of sum 1.
    """
    seen: list[torch.Tensor] = []

    def look(module: nn.Module, args: tuple, output: object) -> None:
        for value in output[1:] if isinstance(output, tuple) else ():
            if not isinstance(value, torch.Tensor) or not value.is_floating_point() or len(value) != 1:
                continue
            weights = value.mean(dim=1) if value.ndim == 4 else value  # [1, queries, positions]
            if weights.ndim == 3 and (weights.float().sum(dim=-1) - 1).abs().max() < _CLOSE and weights.min() >= 0:
                seen.append(weights)

    hooks = [module.register_forward_hook(look) for module in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _shares(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()
