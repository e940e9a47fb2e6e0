"""The item tower that the settings ask for."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recbole_perpeft import content as item_content
from recbole_perpeft import encoder as encoders
from recbole_perpeft.content.cache import cache_folder
from recbole_perpeft.encoder.given_features import given_encoder
from recbole_perpeft.model.conditioning import make_conditioning, modules_of
from recbole_perpeft.model.content_term import ContentTerm
from recbole_perpeft.model.item_embedding import MultimodalItemEmbedding
from recbole_perpeft.utils.errors import EncoderError

if TYPE_CHECKING:  # a bundle is opened without transformers
    from recbole_perpeft.content import ItemContent
    from recbole_perpeft.encoder import FoundationModel, ItemEncoder


def make_tower(config, dataset, id_embedding: nn.Embedding, biases: int) -> MultimodalItemEmbedding:
    """Load the foundation model, prepare the content, and put both around the backbone's item table.

    Parameters
    ----------
    config : recbole_perpeft.config.Config
        The settings.
    dataset
        The training part; names the items.
    id_embedding
        The backbone's item tables, side by side.
    biases
        How many of its columns, the last, content adds nothing to.
    """
    _, num_projectors = modules_of(config["personalised_by"], config["num_groups"])
    encoder = dataset.item_encoder or _given_or_adapted(config, dataset)
    sizes = dataset.num(dataset.uid_field), id_embedding.embedding_dim, config["projector_size"]
    bought = np.concatenate(list(dataset.training_sequences().values()))
    folder = partial(cache_folder, config["content_cache"])
    return MultimodalItemEmbedding(
        id_embedding,
        encoder,
        num_projectors,
        config["content_weight"],
        config["projector_size"],
        make_conditioning(config["personalised_by"], config["num_groups"], *sizes),
        dataset.item_num,
        biases,
        np.flatnonzero(np.bincount(bought, minlength=dataset.item_num)[1:] == 0) + 1,
        config["show_progress"],
        ContentTerm(folder) if config["content_term"] else None,
        folder,
    )


def adapted_encoder(config, foundation: "FoundationModel", content: "ItemContent") -> "ItemEncoder":
    """``foundation`` with the modules that the settings ask for, untrained, to read ``content``."""
    num_modules, _ = modules_of(config["personalised_by"], config["num_groups"])
    device = torch.device(config["device"])
    # What follows is drawn alike for any method and number of groups: rows of a comparison start from the same weights.
    with torch.random.fork_rng(devices=[]):
        return encoders.build_item_encoder(
            foundation,
            content,
            config["peft_type"],
            config["peft_config"],
            num_modules,
            peft_layers=config["peft_layers"],
            dtype=encoders.compute_dtype(config["precision"], device),
            show_progress=config["show_progress"],
            iisan_form=config["iisan_form"],
            compile_encoder=is_compiled(config["compile_encoder"], device),
        )


def is_compiled(asked: bool | None, device: torch.device) -> bool | None:
    """``asked``, or whether to at all: on a CPU it buys nothing (docs/speed.md)."""
    return False if asked is None and device.type != "cuda" else asked


def load_encoder(config, dataset) -> "ItemEncoder":
    """The foundation model as it is, with the content of the catalogue, for the arguments of :func:`make_tower`."""
    if config["item_features"]:
        return given_features(config, dataset.field2id_token[dataset.iid_field], 1)
    foundation, content = _load(config, dataset)
    dtype = encoders.compute_dtype(config["precision"], torch.device(config["device"]))
    return encoders.build_item_encoder(
        foundation, content, None, None, 1, dtype=dtype, show_progress=config["show_progress"]
    )


def given_features(config, tokens: Sequence[str], num_groups: int) -> "ItemEncoder":
    """The features of ``item_features``, for items ``tokens`` in the order of their numbers, padding first."""
    return given_encoder(
        config["item_features"],
        config["modalities"],
        tokens,
        Path(config["data_path"]) / f"{config['dataset']}.item",
        config["ITEM_ID_FIELD"],
        num_groups,
        encoding=config["encoding"] or "utf-8",
        separator=config["field_separator"],
    )


def frozen_features(encoder: "ItemEncoder") -> dict[str, torch.Tensor]:
    """What an encoder of :func:`load_encoder` sees of all items, by modality: ``[n_items, width]``; row 0 is zeros."""
    widths = encoder.foundation.widths
    features = F.pad(encoder.encode(torch.arange(1, encoder.content.n_items), 0), (0, 0, 1, 0))
    return dict(zip(widths, features.split(list(widths.values()), dim=1), strict=True))


def foundation_of(config) -> "FoundationModel":
    """The foundation model that the settings name.

    Raises
    ------
    EncoderError
        If it cannot be loaded, or features are given in its place.
    """
    if config["item_features"]:
        raise EncoderError(
            f"item_features: {config['item_features']} are features of the items that there were: without the model "
            "that made them no other item can be read."
        )
    return encoders.load_foundation(
        encoder=_dual(config),
        image_encoder=config["image_encoder"],
        text_encoder=config["text_encoder"],
        modalities=tuple(config["modalities"]),
        image_pooling=config["image_pooling"],
        text_pooling=config["text_pooling"],
        max_text_length=config["max_text_length"],
        search_folders=(Path(config["data_path"]),),
    )


def text_reader_of(config) -> tuple:
    """The tokenizer of :func:`foundation_of`, and the tokens that it reads of a text; no weights are loaded."""
    from recbole_perpeft.encoder.foundation.loading import load_text_reader

    return load_text_reader(
        encoder=_dual(config),
        text_encoder=config["text_encoder"],
        max_text_length=config["max_text_length"],
        search_folders=(Path(config["data_path"]),),
    )


def image_reader_of(config):
    """The image processor of :func:`foundation_of`; no weights are loaded."""
    from recbole_perpeft.encoder.foundation.loading import load_image_reader

    return load_image_reader(
        encoder=_dual(config), image_encoder=config["image_encoder"], search_folders=(Path(config["data_path"]),)
    )


def _dual(config) -> str | None:
    """The dual encoder, which two single ones replace."""
    return config["encoder"] if not (config["image_encoder"] or config["text_encoder"]) else None


def content_of(
    config, foundation: "FoundationModel", tokens: Sequence[str], folder: Path, item_file: Path
) -> "ItemContent":
    """Pictures and texts of items, ready for ``foundation``, as the settings say.

    Parameters
    ----------
    tokens
        Item ids in the order of their numbers, padding first.
    folder
        Where pictures are looked for.
    item_file
        The atomic ``.item`` file.
    """
    return item_content.prepare_content(
        tokens,
        folder,
        item_file=item_file,
        item_id_field=config["ITEM_ID_FIELD"],
        modalities=foundation.modalities,
        text_fields=config["text_fields"],
        text_template=config["text_template"],
        image_field=config["image_field"],
        image_dir=config["image_dir"],
        missing_content=config["missing_content"],
        image_processor=foundation.image_processor,
        tokenizer=foundation.tokenizer,
        max_text_length=foundation.max_text_length,
        fixed_text_length=foundation.fixed_text_length,
        cache_dir=cache_folder(config["content_cache"]),
        workers=config["content_workers"],
        show_progress=config["show_progress"],
        encoding=config["encoding"] or "utf-8",
        separator=config["field_separator"],
    )


def _given_or_adapted(config, dataset) -> "ItemEncoder":
    if config["item_features"]:
        num_modules, _ = modules_of(config["personalised_by"], config["num_groups"])
        return given_features(config, dataset.field2id_token[dataset.iid_field], num_modules)
    return adapted_encoder(config, *_load(config, dataset))


def _load(config, dataset) -> tuple["FoundationModel", "ItemContent"]:
    folder, foundation = Path(config["data_path"]), foundation_of(config)
    tokens = dataset.field2id_token[dataset.iid_field]
    return foundation, content_of(config, foundation, tokens, folder, folder / f"{config['dataset']}.item")
