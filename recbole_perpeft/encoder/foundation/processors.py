"""Image processors and tokenizers that belong to a checkpoint."""

from logging import getLogger

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, BaseImageProcessor, PreTrainedConfig
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.models.auto.image_processing_auto import (
    IMAGE_PROCESSOR_MAPPING,
    AutoImageProcessor,  # from transformers itself, some versions give one that wants torchvision
    get_image_processor_config,
)

from recbole_perpeft.encoder.foundation.model_folder import quiet_transformers
from recbole_perpeft.utils.errors import EncoderError, first_line

logger = getLogger(__name__)

# SigLIP's text towers pool the last position and were trained on text padded to full length without a mask.
_FIXED_LENGTH_TYPES = {"siglip", "siglip2"}
_DEFAULT_TEXT_LENGTH = 128  # titles are short; a longer limit only costs memory


def load_image_processor(setting: str, checkpoint: str, config: PreTrainedConfig) -> BaseImageProcessor:
    """Load a checkpoint's image processor, in the variant that needs no torchvision.

    A checkpoint without ``preprocessor_config.json`` gets its architecture's default processor at the image
    size of the configuration; a log line says so.

    Raises
    ------
    EncoderError
        If there is no processor for the architecture, or it makes anything else than a fixed-size RGB image.
    """
    try:
        with quiet_transformers():
            if get_image_processor_config(checkpoint):
                processor = AutoImageProcessor.from_pretrained(checkpoint, backend="pil", config=config)
            else:
                processor = _default_image_processor(setting, checkpoint, config)
    except EncoderError:
        raise
    except Exception as error:  # transformers raises many kinds here, among them ImportError and KeyError
        raise EncoderError(
            f"{setting}: the image processor of {checkpoint} cannot be loaded ({first_line(error)}). "
            "Check its preprocessor_config.json."
        ) from error
    _check_image_processor(setting, checkpoint, processor)
    return processor


def _default_image_processor(setting: str, checkpoint: str, config: PreTrainedConfig) -> BaseImageProcessor:
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    if type(config) not in IMAGE_PROCESSOR_MAPPING or not isinstance(size, int):
        raise EncoderError(
            f"{setting}: {checkpoint} has no preprocessor_config.json, and none can be made for the type "
            f"{config.model_type!r}. Save the model's image processor into its folder."
        )
    cls = IMAGE_PROCESSOR_MAPPING[type(config)]["pil"]
    sized = [name for name in ("size", "crop_size") if getattr(cls, name, None)]
    processor = cls(**{name: dict.fromkeys(getattr(cls, name), size) for name in sized})
    logger.warning(
        "%s: %s has no preprocessor_config.json; using the default of type %r: %d pixels, mean %s, std %s",
        setting,
        checkpoint,
        config.model_type,
        size,
        processor.image_mean,
        processor.image_std,
    )
    return processor


def pixel_affine(processor: BaseImageProcessor) -> tuple[torch.Tensor, torch.Tensor]:
    """Express a processor's rescaling and normalisation as ``pixels * scale + shift``.

    Returns
    -------
    scale, shift : Tensor[1, 3, 1, 1]
    """
    factor, offset = (processor.rescale_factor, 0.0) if processor.do_rescale else (1.0, 0.0)
    if processor.do_rescale and getattr(processor, "rescale_offset", False):
        offset = -1.0  # EfficientNet, the image tower of ALIGN: pixels between -1 and 1
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    mean = torch.as_tensor(mean, dtype=torch.float64).expand(3)
    std = torch.as_tensor(std, dtype=torch.float64).expand(3)
    scale, shift = factor / std, (offset - mean) / std
    return scale.float().view(1, 3, 1, 1), shift.float().view(1, 3, 1, 1)


def blank_pixels(processor: BaseImageProcessor) -> torch.Tensor:
    """Return what a processor makes of a grey image: uint8 Tensor[1, 3, H, W]."""
    return _resized(processor, Image.new("RGB", (64, 48), (128, 128, 128)))[None]


def _resized(processor: BaseImageProcessor, image: Image.Image) -> torch.Tensor:
    pixels = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    if pixels.ndim != 3 or pixels.shape[0] != 3 or not np.array_equal(pixels, pixels.astype(np.uint8)):
        raise ValueError(f"it makes {pixels.dtype} arrays of shape {pixels.shape}")
    return torch.from_numpy(pixels.astype(np.uint8))  # [3, H, W]


def _check_image_processor(setting: str, checkpoint: str, processor: BaseImageProcessor) -> None:
    """Check on a wide and a tall image that bytes and :func:`pixel_affine` give the processor's output."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    shapes = set()
    try:
        for array in (noise, noise.transpose(1, 0, 2)):
            image = Image.fromarray(np.ascontiguousarray(array))
            pixels = _resized(processor, image)
            shapes.add(tuple(pixels.shape))
            scale, shift = pixel_affine(processor)
            expected = torch.as_tensor(processor(image, return_tensors="np")["pixel_values"][0])
            if not torch.allclose(pixels * scale[0] + shift[0], expected.float(), atol=1e-4):
                raise ValueError("its normalisation is no plain mean and standard deviation")
        if len(shapes) > 1:
            raise ValueError(f"it makes images of different sizes {sorted(shapes)}")
    except Exception as error:
        raise EncoderError(
            f"{setting}: the image processor of {checkpoint} ({type(processor).__name__}) cannot be used: "
            f"{first_line(error)}. Choose a model that reads RGB images of one size."
        ) from error


def load_tokenizer(setting: str, checkpoint: str, config: PreTrainedConfig) -> Tokenizer:
    """Load a checkpoint's tokenizer, with a padding token.

    Raises
    ------
    EncoderError
        If it is absent or broken, cannot pad, or knows more tokens than the model.
    """
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(checkpoint, config=config)
    except Exception as error:  # transformers raises many kinds here, among them ImportError and KeyError
        raise EncoderError(
            f"{setting}: the tokenizer of {checkpoint} cannot be loaded ({first_line(error)}). "
            "Save the model's tokenizer into its folder (tokenizer.json, tokenizer_config.json)."
        ) from error
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what transformers makes of missing files
        raise EncoderError(
            f"{setting}: {checkpoint} has no vocabulary for its tokenizer. Save the model's tokenizer into its "
            "folder (tokenizer.json, tokenizer_config.json)."
        )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise EncoderError(
                f"{setting}: the tokenizer of {checkpoint} has no padding token. Set pad_token in its files."
            )
        tokenizer.pad_token = tokenizer.eos_token
    vocabulary = getattr(config, "text_config", config).vocab_size
    if len(tokenizer) > vocabulary:
        raise EncoderError(
            f"{setting}: the tokenizer of {checkpoint} has {len(tokenizer)} tokens, but the model only "
            f"{vocabulary}. Save the tokenizer that belongs to the model into its folder."
        )
    return tokenizer


def has_fixed_text_length(config: PreTrainedConfig) -> bool:
    """Tell whether a text tower needs text padded to its full length, without an attention mask."""
    return config.model_type in _FIXED_LENGTH_TYPES


def text_length(setting: int | None, tokenizer: Tokenizer, config: PreTrainedConfig) -> int:
    """Decide how many tokens of a text are read.

    Parameters
    ----------
    setting : int or None
        ``max_text_length``; None takes the model's limit, at most 128.
    tokenizer : Tokenizer
        From :func:`load_tokenizer`.
    config : PreTrainedConfig
        Of the model that reads the text.

    Raises
    ------
    EncoderError
        If the setting is no number of tokens that the model can read.
    """
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    if has_fixed_text_length(config):
        if setting not in (None, positions):
            raise EncoderError(
                f"max_text_length: {setting} does not fit a {config.model_type} text tower, which always "
                f"reads {positions} tokens. Leave max_text_length out."
            )
        return positions
    limit = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)
    if setting is None:
        return min(limit, _DEFAULT_TEXT_LENGTH)
    shortest = tokenizer.num_special_tokens_to_add() + 1
    if not isinstance(setting, int) or isinstance(setting, bool) or not shortest <= setting <= limit:
        raise EncoderError(
            f"max_text_length: {setting!r} is no length that this model can read. Set {shortest} to {limit}."
        )
    return setting
