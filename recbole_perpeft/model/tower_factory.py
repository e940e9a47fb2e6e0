"""The item tower that the settings ask for."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recbole_perpeft import content as item_content
from recbole_perpeft import encoder as encoders
from recbole_perpeft.model.conditioning import make_conditioning, modules_of
from recbole_perpeft.model.content_term import ContentTerm
from recbole_perpeft.model.item_embedding import MultimodalItemEmbedding

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
    encoder = dataset.item_encoder or adapted_encoder(config, *_load(config, dataset))
    sizes = dataset.num(dataset.uid_field), id_embedding.embedding_dim, config["projector_size"]
    bought = np.concatenate(list(dataset.training_sequences().values()))
    return MultimodalItemEmbedding(
        id_embedding,
        encoder,
        num_projectors,
        config["content_weight"],
        config["projector_size"],
        make_conditioning(config["personalised_by"], config["num_groups"], *sizes),
        dataset.item_num,
        biases,
        np.setdiff1d(np.arange(1, dataset.item_num), bought),
        config["show_progress"],
        ContentTerm() if config["content_term"] else None,
    )


def adapted_encoder(config, foundation: "FoundationModel", content: "ItemContent") -> "ItemEncoder":
    """``foundation`` with the modules that the settings ask for, untrained, to read ``content``."""
    num_modules, _ = modules_of(config["personalised_by"], config["num_groups"])
    # What follows is drawn alike for any method and number of groups: rows of a comparison start from the same weights.
    with torch.random.fork_rng(devices=[]):
        encoder = encoders.build_item_encoder(
            foundation,
            content,
            config["peft_type"],
            config["peft_config"],
            num_modules,
            peft_layers=config["peft_layers"],
            dtype=encoders.compute_dtype(config["precision"], torch.device(config["device"])),
            show_progress=config["show_progress"],
            iisan_form=config["iisan_form"],
        )
    encoder.item_features.in_portions = config["encoding_batch_size"] is not None
    return encoder


def load_encoder(config, dataset) -> "ItemEncoder":
    """The foundation model as it is, with the content of the catalogue, for the arguments of :func:`make_tower`."""
    foundation, content = _load(config, dataset)
    dtype = encoders.compute_dtype(config["precision"], torch.device(config["device"]))
    return encoders.build_item_encoder(
        foundation, content, None, None, 1, dtype=dtype, show_progress=config["show_progress"]
    )


def frozen_features(encoder: "ItemEncoder") -> dict[str, torch.Tensor]:
    """What an encoder of :func:`load_encoder` sees of all items, by modality: ``[n_items, width]``; row 0 is zeros."""
    widths = encoder.foundation.widths
    features = F.pad(encoder.encode(torch.arange(1, encoder.content.n_items), 0), (0, 0, 1, 0))
    return dict(zip(widths, features.split(list(widths.values()), dim=1), strict=True))


def foundation_of(config) -> "FoundationModel":
    """The foundation model that the settings name."""
    return encoders.load_foundation(
        encoder=config["encoder"] if not (config["image_encoder"] or config["text_encoder"]) else None,
        image_encoder=config["image_encoder"],
        text_encoder=config["text_encoder"],
        modalities=tuple(config["modalities"]),
        image_pooling=config["image_pooling"],
        text_pooling=config["text_pooling"],
        max_text_length=config["max_text_length"],
        search_folders=(Path(config["data_path"]),),
    )


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
        cache_dir=config["content_cache"],
        workers=config["content_workers"],
        show_progress=config["show_progress"],
        encoding=config["encoding"] or "utf-8",
        separator=config["field_separator"],
    )


def _load(config, dataset) -> tuple["FoundationModel", "ItemContent"]:
    folder, foundation = Path(config["data_path"]), foundation_of(config)
    tokens = dataset.field2id_token[dataset.iid_field]
    return foundation, content_of(config, foundation, tokens, folder, folder / f"{config['dataset']}.item")
