"""What must hold of any encoder's features, seen on two items when it is loaded, whatever its architecture."""

import logging

import torch

from recbole_perpeft.encoder.errors import EncoderError, first_line
from recbole_perpeft.encoder.foundation_model import FoundationModel
from recbole_perpeft.encoder.pair import EncoderPair

# Features have length 1. In another batch the same item differs by rounding, of about 1e-6; other items do by more.
_STEADY, _DISTINCT = 1e-4, 1e-6
_TEXTS = ["a b", "a b c d e f g h a b c d e f g h"]


def check_features(foundation: FoundationModel) -> None:
    """Refuse an encoder whose features are not those of its items; cure it where plain attention does.

    An item must have the same feature alone and beside others, texts with padding and without. Two items that differ in
    their last part only (a token, a quarter of the picture) must have different features.

    Parameters
    ----------
    foundation
        As it was loaded. An encoder that fails with the attention that transformers chose, and not with the plain one,
        keeps the plain one; the log says so.

    Raises
    ------
    EncoderError
        If features depend on the batch, or not on the item.
    """
    for modality in foundation.modalities:
        _check_steady(foundation, modality)
        if not _tells_apart(foundation, modality):
            raise EncoderError(_not_told_apart(foundation, modality))


def _check_steady(foundation: FoundationModel, modality: str) -> None:
    difference = _unsteadiness(foundation, modality)
    if difference <= _STEADY:
        return
    try:
        foundation.forbid_other_attention()
        with_plain = _unsteadiness(foundation, modality)
    except Exception as error:  # architectures without plain attention refuse it in their own way
        with_plain, reason = difference, f" ({first_line(error)})"
    else:
        reason = ""
    text = "a text's feature changes with the padding and the texts beside it"
    what = text if modality == "text" else "a picture's feature changes with the pictures beside it"
    if not with_plain <= _STEADY:
        raise EncoderError(
            f"{_setting(foundation, modality)}: with {foundation.name} {what}, by up to {difference:.2g} of a feature "
            f"of length 1, and plain attention does not cure it{reason}. Choose another encoder, or leave {modality} "
            "out of modalities."
        )
    logging.getLogger().warning(
        f"{_setting(foundation, modality)}: with {foundation.name} {what}, by up to {difference:.2g} of a feature of "
        "length 1, under the attention that transformers chose for it. It runs with plain (eager) attention instead."
    )


@torch.no_grad()
def _unsteadiness(foundation: FoundationModel, modality: str) -> float:
    """By how much an item's feature differs between batches at most; infinite if it is not a number."""
    batch = _two_items(foundation, modality)
    whole = foundation.encode(modality, batch)  # [2, d]
    others = [(foundation.encode(modality, _rows(batch, [1])), whole[1:])]
    if modality == "text" and not foundation.fixed_text_length:
        longest = int(batch["attention_mask"].sum(dim=1).max())
        others.append((foundation.encode(modality, _cut(_rows(batch, [1, 0]), longest)), whole.flip(0)))
        short = int(batch["attention_mask"][0].sum())
        others.append((foundation.encode(modality, _cut(_rows(batch, [0]), short)), whole[:1]))
    return max(float((found - expected).abs().max().nan_to_num(torch.inf)) for found, expected in others)


@torch.no_grad()
def _tells_apart(foundation: FoundationModel, modality: str) -> bool:
    batch = _rows(_two_items(foundation, modality), [1])
    changed = _change_end(foundation, modality, batch)
    if changed is None:
        return True
    features = [foundation.encode(modality, one) for one in (batch, changed)]
    return bool((features[0] - features[1]).abs().max() > _DISTINCT)


def _two_items(foundation: FoundationModel, modality: str) -> dict[str, torch.Tensor]:
    return foundation.probe("image") if modality == "image" else foundation.tokens(_TEXTS)


def _change_end(
    foundation: FoundationModel, modality: str, batch: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor] | None:
    """One item with another end: the lower right quarter of a picture, or a text's last own token, if it has any."""
    if modality == "image":
        pixels = batch["pixels"].clone()  # [1, 3, H, W]
        height, width = (size // 2 for size in pixels.shape[-2:])
        pixels[..., height:, width:] = 255 - pixels[..., height:, width:]
        return {"pixels": pixels}
    special = set(foundation.tokenizer.all_special_ids)
    ids = batch["input_ids"].clone()  # [1, l]
    own = [place for place, token in enumerate(ids[0].tolist()) if token not in special]
    known = (token for token in [*ids[0].tolist(), *range(len(foundation.tokenizer))] if token not in special)
    other = next((token for token in known if own and token != int(ids[0, own[-1]])), None)
    if other is None:
        return None
    ids[0, own[-1]] = other
    return {**batch, "input_ids": ids}


def _rows(batch: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    return {key: values[rows] for key, values in batch.items()}


def _cut(batch: dict[str, torch.Tensor], length: int) -> dict[str, torch.Tensor]:
    return {key: values[:, :length] for key, values in batch.items()}


def _not_told_apart(foundation: FoundationModel, modality: str) -> str:
    what = "texts that differ in their last word" if modality == "text" else "pictures that differ in a quarter"
    same = f"{what} have one and the same feature, for what it reads does not see them whole"
    pooling = getattr(foundation.model, f"{modality}_pooling", None)
    if isinstance(foundation.model, EncoderPair) and pooling != "mean":
        return (
            f"{modality}_pooling: {pooling} cannot be used with {foundation.name}: {same} (the first position of a "
            f"causal model knows of no later one). Set {modality}_pooling: mean."
        )
    return (
        f"{_setting(foundation, modality)}: {foundation.name} cannot be used: {same}. Choose another encoder, or leave "
        f"{modality} out of modalities."
    )


def _setting(foundation: FoundationModel, modality: str) -> str:
    return f"{modality}_encoder" if isinstance(foundation.model, EncoderPair) else "encoder"
