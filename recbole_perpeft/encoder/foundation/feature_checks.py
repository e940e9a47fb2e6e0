"""What must hold of any encoder's features, seen on two items when it is loaded, whatever its architecture."""

import logging

import torch

from recbole_perpeft.encoder.foundation.foundation_model import FoundationModel
from recbole_perpeft.encoder.foundation.pair import EncoderPair
from recbole_perpeft.utils.errors import EncoderError, first_line

# Features have length 1. In another batch the same item differs by rounding, of about 1e-6; other items do by more.
_STEADY, _DISTINCT = 1e-4, 1e-6
_TEXTS = ["a b", *["a b c d e f g h a b c d e f g h"] * 2]
_PADDING = 8


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
    batch = _items(foundation, modality)
    whole = foundation.encode(modality, batch)  # [n, d]
    pairs = [(foundation.encode(modality, _rows(batch, [1])), whole[1:2])]
    if modality == "text" and not foundation.fixed_text_length:
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        pairs.append((foundation.encode(modality, _cut(_rows(batch, [1, 0]), max(lengths))), whole[[1, 0]]))
        pairs.append((foundation.encode(modality, _cut(_rows(batch, [0]), lengths[0])), whole[:1]))
    return max(float((found - expected).abs().max().nan_to_num(torch.inf)) for found, expected in pairs)


@torch.no_grad()
def _tells_apart(foundation: FoundationModel, modality: str) -> bool:
    """Whether the last two items, if they differ, have different features."""
    batch = _rows(_items(foundation, modality), [-2, -1])
    if all(torch.equal(*values) for values in batch.values()):
        return True
    features = foundation.encode(modality, batch)  # [2, d]
    return bool((features[0] - features[1]).abs().max() > _DISTINCT)


def _items(foundation: FoundationModel, modality: str) -> dict[str, torch.Tensor]:
    """Two pictures that differ in the lower right quarter; a short text and two long ones that differ in their end.

    Texts have more padding than they need, as they may have beside others.
    """
    if modality == "image":
        pixels = foundation.probe("image")["pixels"][1:]  # [1, 3, H, W]
        other = pixels.clone()
        height, width = (size // 2 for size in pixels.shape[-2:])
        other[..., height:, width:] = 255 - pixels[..., height:, width:]
        return {"pixels": torch.cat([pixels, other])}
    batch = foundation.tokens(_TEXTS)
    if not foundation.fixed_text_length:
        batch = _cut(batch, int(batch["attention_mask"].sum(dim=1).max()) + _PADDING)
    special = set(foundation.tokenizer.all_special_ids) - {foundation.tokenizer.unk_token_id}
    ids = batch["input_ids"]  # [3, l]
    own = [place for place, token in enumerate(ids[2].tolist()) if token not in special]
    known = (token for token in [*ids[2].tolist(), *range(len(foundation.tokenizer))] if token not in special)
    if own:  # else the tokenizer knows none of these letters
        ids[2, own[-1]] = next(token for token in known if token != int(ids[2, own[-1]]))
    return batch


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
