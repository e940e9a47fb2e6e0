"""Load a frozen foundation model as the settings describe it."""

from collections.abc import Sequence
from pathlib import Path

from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel

from recbole_perpeft.encoder.foundation.feature_checks import check_features
from recbole_perpeft.encoder.foundation.foundation_model import MODALITIES, FoundationModel
from recbole_perpeft.encoder.foundation.model_folder import (
    load_config,
    load_model,
    model_class,
    refuse_missing,
    resolve_checkpoint,
)
from recbole_perpeft.encoder.foundation.pair import EncoderPair, check_pooling, choose_image_pooling
from recbole_perpeft.encoder.foundation.processors import (
    Tokenizer,
    has_fixed_text_length,
    load_image_processor,
    load_tokenizer,
    text_length,
)
from recbole_perpeft.utils.errors import EncoderError


def load_foundation(
    *,
    encoder: str | None = None,
    image_encoder: str | None = None,
    text_encoder: str | None = None,
    modalities: Sequence[str] = MODALITIES,
    image_pooling: str | None = None,
    text_pooling: str | None = None,
    max_text_length: int | None = None,
    search_folders: Sequence[str | Path] = (),
) -> FoundationModel:
    """Load a frozen foundation model; the parameters are the settings of the same names.

    Parameters
    ----------
    encoder : str, optional
        Hub name or folder of a dual encoder, such as "openai/clip-vit-base-patch32".
    image_encoder, text_encoder : str, optional
        Hub names or folders of two encoders, instead of ``encoder``.
    modalities : sequence of {"image", "text"}
        What is used of an item. An encoder of another modality is not kept in memory.
    image_pooling : {"cls", "mean", "pooler"}, optional
        For ``image_encoder``; by default its class token, or the mean where it has none.
    text_pooling : {"mean", "cls", "pooler"}, optional
        For ``text_encoder``; by default the mean over the text's tokens.
    max_text_length : int, optional
        Tokens read of a text; by default the model's limit, at most 128.
    search_folders : sequence of path
        Where a folder is looked for after the working directory (the data set's folder).

    Returns
    -------
    FoundationModel

    Raises
    ------
    EncoderError
        If the settings contradict each other, or a model cannot be loaded or is of the wrong kind.
    """
    modalities = _check_modalities(modalities)
    check_pooling("image_pooling", image_pooling)
    check_pooling("text_pooling", text_pooling)
    names = {"image": image_encoder, "text": text_encoder}
    poolings = {"image": image_pooling, "text": text_pooling}
    if encoder is None:
        return _load_pair(names, poolings, modalities, max_text_length, search_folders)
    for modality in MODALITIES:
        if names[modality] is not None:
            raise EncoderError(f"encoder and {modality}_encoder are both set. Leave one of them out.")
        if poolings[modality] is not None:
            raise EncoderError(
                f"{modality}_pooling: {poolings[modality]} has no effect on a dual encoder. Leave it out."
            )
    return _load_dual(encoder, modalities, max_text_length, search_folders)


def load_text_reader(
    *,
    encoder: str | None = None,
    text_encoder: str | None = None,
    max_text_length: int | None = None,
    search_folders: Sequence[str | Path] = (),
) -> tuple[Tokenizer, int]:
    """The tokenizer of :func:`load_foundation`, and the tokens that it reads of a text; no weights are loaded.

    Raises
    ------
    EncoderError
        If it cannot be loaded.
    """
    setting, checkpoint, config = _open_reader("text", encoder, text_encoder, search_folders)
    tokenizer = load_tokenizer(setting, checkpoint, config)
    return tokenizer, text_length(max_text_length, tokenizer, config)


def load_image_reader(
    *, encoder: str | None = None, image_encoder: str | None = None, search_folders: Sequence[str | Path] = ()
) -> BaseImageProcessor:
    """The image processor of :func:`load_foundation`; no weights are loaded.

    Raises
    ------
    EncoderError
        If it cannot be loaded.
    """
    return load_image_processor(*_open_reader("image", encoder, image_encoder, search_folders))


def _open_reader(
    modality: str, encoder: str | None, single: str | None, search_folders: Sequence[str | Path]
) -> tuple[str, str, PreTrainedConfig]:
    """The setting that names the encoder of a modality, and what it names."""
    if encoder is not None:
        checkpoint, config, _ = _open_dual(encoder, search_folders)
        return "encoder", checkpoint, config
    if single is None:
        raise EncoderError(f"modalities: [{modality}] needs encoder or {modality}_encoder. Set {modality}_encoder.")
    checkpoint, config, _ = _open_single(modality, single, search_folders)
    return f"{modality}_encoder", checkpoint, config


def _check_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    chosen = [modalities] if isinstance(modalities, str) else list(modalities or [])
    if not chosen or not set(chosen) <= set(MODALITIES):
        raise EncoderError(f"modalities: {modalities!r} is none of [image], [text] and [image, text].")
    return tuple(modality for modality in MODALITIES if modality in chosen)


def _load_dual(
    name: str, modalities: tuple[str, ...], max_text_length: int | None, search_folders: Sequence[str | Path]
) -> FoundationModel:
    checkpoint, config, cls = _open_dual(name, search_folders)
    image_processor = load_image_processor("encoder", checkpoint, config) if "image" in modalities else None
    tokenizer = load_tokenizer("encoder", checkpoint, config) if "text" in modalities else None
    length = text_length(max_text_length, tokenizer, config) if tokenizer else None
    model, missing = load_model("encoder", checkpoint, cls, config, needs_pooler=True)
    fixed = tokenizer is not None and has_fixed_text_length(config)
    foundation = FoundationModel(model, checkpoint, image_processor, tokenizer, length, fixed)
    refuse_missing("encoder", checkpoint, foundation.model, missing)  # what is not used may be missing
    check_features(foundation)
    return foundation


def _open_dual(name: str, search_folders: Sequence[str | Path]) -> tuple[str, PreTrainedConfig, type[PreTrainedModel]]:
    checkpoint = resolve_checkpoint("encoder", name, search_folders)
    config = load_config("encoder", checkpoint)
    cls = model_class("encoder", checkpoint, config)
    if not _is_dual(cls):
        raise EncoderError(
            f"encoder: {checkpoint} (type {config.model_type!r}) has no joint space of pictures and texts. "
            "Set a dual encoder such as openai/clip-vit-base-patch32, "
            "or image_encoder and text_encoder side by side."
        )
    return checkpoint, config, cls


def _load_pair(
    names: dict[str, str | None],
    poolings: dict[str, str | None],
    modalities: tuple[str, ...],
    max_text_length: int | None,
    search_folders: Sequence[str | Path],
) -> FoundationModel:
    for modality in modalities:
        if names[modality] is None:
            other = ", ".join(f"{m}_encoder: {name}" for m, name in names.items() if name) or "nothing"
            raise EncoderError(
                f"modalities: {list(modalities)} needs encoder or {modality}_encoder, but {other} is set. "
                f"Set {modality}_encoder, or leave {modality} out of modalities."
            )
    image = text = image_processor = tokenizer = length = None
    checkpoints = []
    if "image" in modalities:
        checkpoint, config, cls = _open_single("image", names["image"], search_folders)
        image_processor = load_image_processor("image_encoder", checkpoint, config)
        image = _load_single("image", checkpoint, cls, config, poolings["image"] == "pooler")
        poolings = poolings | {"image": choose_image_pooling(poolings["image"], image)}
        checkpoints.append(checkpoint)
    if "text" in modalities:
        checkpoint, config, cls = _open_single("text", names["text"], search_folders)
        tokenizer = load_tokenizer("text_encoder", checkpoint, config)
        length = text_length(max_text_length, tokenizer, config)
        poolings = poolings | {"text": poolings["text"] or "mean"}
        text = _load_single("text", checkpoint, cls, config, poolings["text"] == "pooler")
        checkpoints.append(checkpoint)
    pair = EncoderPair(image, text, poolings["image"], poolings["text"])
    foundation = FoundationModel(pair, " + ".join(checkpoints), image_processor, tokenizer, length, False)
    check_features(foundation)
    return foundation


def _open_single(
    modality: str, name: str, search_folders: Sequence[str | Path]
) -> tuple[str, PreTrainedConfig, type[PreTrainedModel]]:
    setting = f"{modality}_encoder"
    checkpoint = resolve_checkpoint(setting, name, search_folders)
    config = load_config(setting, checkpoint)
    cls = model_class(setting, checkpoint, config)
    if _is_dual(cls):
        raise EncoderError(
            f"{setting}: {checkpoint} is a dual encoder. "
            f"Set encoder: {name} (and modalities: [{modality}] to use this side of it alone)."
        )
    expected = {"image": "pixel_values", "text": "input_ids"}[modality]
    if cls.main_input_name != expected or config.is_encoder_decoder:
        kind = "an encoder-decoder" if config.is_encoder_decoder else f"a model that reads {cls.main_input_name}"
        raise EncoderError(
            f"{setting}: {checkpoint} (type {config.model_type!r}) is no {modality} encoder but {kind}. "
            f"Set the name of a model such as {'a ViT' if modality == 'image' else 'a BERT or MiniLM'}."
        )
    return checkpoint, config, cls


def _load_single(
    modality: str, checkpoint: str, cls: type[PreTrainedModel], config: PreTrainedConfig, needs_pooler: bool
) -> PreTrainedModel:
    setting = f"{modality}_encoder"
    model, missing = load_model(setting, checkpoint, cls, config, needs_pooler)
    if not needs_pooler:  # architectures that always build one do not read it here
        missing = {name for name in missing if not name.startswith("pooler.")}
    refuse_missing(setting, checkpoint, model, missing)
    return model


def _is_dual(cls: type[PreTrainedModel]) -> bool:
    return hasattr(cls, "get_image_features") and hasattr(cls, "get_text_features")
