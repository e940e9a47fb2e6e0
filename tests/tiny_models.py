"""Tiny random foundation models in Hugging Face format, deterministic, made in milliseconds."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Aimv2Config,
    Aimv2Model,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

WIDTH, INNER, LAYERS = 16, 32, 2
_SHAPE = {
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
}
_LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789"]


def save_tiny_clip(folder: str | Path, image_size: int = 32) -> Path:
    """Save a CLIP with 8-wide joint space and base dropout, 16 text positions."""
    # the end token pads, as in OpenAI's; its id is not 2, with which CLIP would pool the largest token id
    tokenizer = _tokenizer("<eos>", "<bos>", "<eos>", max_length=16)
    text = _SHAPE | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "attention_dropout": 0.5,
    }
    vision = _SHAPE | {"image_size": image_size, "patch_size": image_size // 2, "attention_dropout": 0.5}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    )
    return _save(folder, CLIPModel, config, tokenizer, processor)


def save_tiny_siglip(folder: str | Path) -> Path:
    """Save a SigLIP with 12 text positions."""
    tokenizer = _tokenizer("<pad>", "<bos>", "<eos>", max_length=12)
    text = _SHAPE | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 12,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = SiglipConfig(text_config=text, vision_config=_SHAPE | {"image_size": 32, "patch_size": 16})
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return _save(folder, SiglipModel, config, tokenizer, processor)


def save_tiny_vit(folder: str | Path) -> Path:
    """Save a ViT for classification, which has no pooler, with dropout."""
    config = ViTConfig(**_SHAPE, image_size=32, patch_size=16, hidden_dropout_prob=0.5)
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    return _save(folder, ViTForImageClassification, config, None, processor)


def save_tiny_stages(folder: str | Path) -> Path:
    """Save two image encoders of stages 8 and 16 wide into the subfolders ``swin`` and ``convnext``."""
    swin = SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 3], num_heads=[1, 2], window_size=4)
    convnext = ConvNextConfig(image_size=32, hidden_sizes=[8, 16], depths=[1, 3], num_stages=2)
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    _save(Path(folder) / "swin", SwinModel, swin, None, processor)
    _save(Path(folder) / "convnext", ConvNextModel, convnext, None, processor)
    return Path(folder)


def save_tiny_bert(folder: str | Path) -> Path:
    """Save a BERT with pooler and dropout, 20 positions."""
    tokenizer = _tokenizer("<pad>", "<cls>", "<sep>", max_length=20)
    config = BertConfig(**_SHAPE, vocab_size=len(tokenizer), max_position_embeddings=20, hidden_dropout_prob=0.5)
    return _save(folder, BertModel, config, tokenizer, None)


def save_tiny_aimv2(folder: str | Path) -> Path:
    """Save an AIMv2, whose text tower is causal, with 16 text positions."""
    tokenizer = _tokenizer("<eos>", "<bos>", "<eos>", max_length=16)
    text = _SHAPE | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = Aimv2Config(
        text_config=text, vision_config=_SHAPE | {"image_size": 32, "patch_size": 16}, projection_dim=8
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return _save(folder, Aimv2Model, config, tokenizer, processor)


def save_tiny_qwen3(folder: str | Path) -> Path:
    """Save a causal language model, 20 positions."""
    tokenizer = _tokenizer("<pad>", "<bos>", "<eos>", max_length=20)
    sizes = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 20}
    return _save(folder, Qwen3Model, Qwen3Config(**_SHAPE, **sizes, vocab_size=len(tokenizer)), tokenizer, None)


def _tokenizer(pad: str, start: str, end: str, max_length: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer whose tokens are letters and digits, between a start and an end token."""
    tokens = list(dict.fromkeys([pad, "<unk>", start, *_LETTERS, end]))
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(token, tokens.index(token)) for token in (start, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        bos_token=start,
        eos_token=end,
        unk_token="<unk>",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def _save(folder: str | Path, cls: type[PreTrainedModel], config, tokenizer, processor) -> Path:
    folder = Path(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = cls(config)
        with torch.no_grad():
            for parameter in model.parameters():  # wide enough that every weight shows in the features
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    for part in (tokenizer, processor):
        if part is not None:
            part.save_pretrained(folder)
    return folder
