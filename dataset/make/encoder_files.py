"""The parts of a small CLIP in Hugging Face's format: configuration, tokenizer and image processor."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

WIDTH = 96
PROJECTION = 96
LAYERS = 3
HEADS = 4
FEED_FORWARD = 384
PATCH = 12
MAX_TOKENS = 40
VOCABULARY = 640
MEAN = STD = 0.5

# in the order of their ids; 2 must not be the end token: CLIPTextModel takes an eos_token_id of 2 for an old
# faulty configuration and then pools at the highest token id instead of at the end token
SPECIAL_TOKENS = ("<|pad|>", "<|startoftext|>", "<|unknown|>", "<|endoftext|>")


def build_tokenizer(captions: list[str]) -> PreTrainedTokenizerBase:
    """Train a lower-case byte-level BPE tokenizer; unknown words fall apart into shorter pieces.

    Parameters
    ----------
    captions : list of str
        The text to train on.

    Returns
    -------
    PreTrainedTokenizerBase
        Puts a start token before and an end token behind every text.
    """
    pad, start, unknown, end = SPECIAL_TOKENS
    tokenizer = Tokenizer(models.BPE(unk_token=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=pad,
        unk_token=unknown,
        model_max_length=MAX_TOKENS,
    )


def small_clip_config(tokenizer: PreTrainedTokenizerBase, side: int) -> dict:
    """Arguments of a `CLIPConfig` of 0.8 million parameters.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Gives the size of the vocabulary and the ids of the special tokens.
    side : int
        Side of the pictures in pixels, a multiple of `PATCH`.

    Returns
    -------
    dict
        Keyword arguments.
    """
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "projection_dim": PROJECTION,
    }
    text = {
        **tower,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return {
        "text_config": text,
        "vision_config": {**tower, "image_size": side, "patch_size": PATCH},
        "projection_dim": PROJECTION,
    }


def save_encoder(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, side: int, folder: Path) -> None:
    """Save model, tokenizer and image processor so that the Auto classes of transformers open them.

    Parameters
    ----------
    model : CLIPModel
        The model.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    side : int
        Side of the pictures in pixels.
    folder : Path
        Where to; made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
    }
    text = json.dumps(processor, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8", newline="\n")
