"""An image encoder and a text encoder side by side, and how their states become one vector per item."""

import re

import torch
from torch import nn
from transformers.modeling_outputs import ModelOutput

from recbole_perpeft.utils.errors import EncoderError

POOLINGS = ("cls", "mean", "pooler")
_CLASS_TOKEN = re.compile(r"(^|\.|_)(cls|class)_(token|embedding)s?$")


def check_pooling(setting: str, value: str | None) -> None:
    """Refuse a pooling that does not exist.

    Raises
    ------
    EncoderError
        If the value is neither None nor one of :data:`POOLINGS`.
    """
    if value is not None and value not in POOLINGS:
        raise EncoderError(f"{setting}: {value!r} is no pooling. Set one of {', '.join(POOLINGS)}.")


def choose_image_pooling(setting: str | None, model: nn.Module) -> str:
    """Decide how an image encoder is pooled.

    Parameters
    ----------
    setting : str or None
        ``image_pooling``. None takes "cls" where the encoder has a class token, else "mean" (Swin, ConvNeXt).
    model : nn.Module
        The image encoder.

    Raises
    ------
    EncoderError
        If "cls" is asked of an encoder without a class token.
    """
    has_class_token = any(_CLASS_TOKEN.search(name) for name, _ in model.named_parameters())
    if setting == "cls" and not has_class_token:
        raise EncoderError(
            f"image_pooling: cls needs a class token, which {type(model).__name__} has not. Set image_pooling: mean."
        )
    return setting or ("cls" if has_class_token else "mean")


class EncoderPair(nn.Module):
    """Two encoders, or one of them, behind the interface of a Hugging Face dual encoder.

    Parameters
    ----------
    image, text : nn.Module or None
        Hugging Face encoders; None leaves the modality out.
    image_pooling, text_pooling : str or None
        One of :data:`POOLINGS`; None only for an encoder that is left out.
    """

    def __init__(
        self,
        image: nn.Module | None,
        text: nn.Module | None,
        image_pooling: str | None,
        text_pooling: str | None,
    ) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.image_pooling = image_pooling
        self.text_pooling = text_pooling

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Encode normalised pixels [n, 3, H, W] into [n, d]."""
        return pool_image(self.image(pixel_values=pixel_values), self.image_pooling)

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Encode tokens [n, l] with their mask [n, l] into [n, d]."""
        output = self.text(input_ids=input_ids, attention_mask=attention_mask)
        return pool_text(output, self.text_pooling, attention_mask)


def pool_image(output: ModelOutput, pooling: str) -> torch.Tensor:
    """Pool the states of an image encoder.

    Parameters
    ----------
    output : ModelOutput
        ``last_hidden_state`` is [n, positions, d], or [n, d, height, width] for convolutions.
    pooling : {"cls", "mean", "pooler"}
        First position; mean over all positions; the encoder's own pooled output.

    Returns
    -------
    Tensor[n, d]

    Raises
    ------
    EncoderError
        If the encoder has no pooled output.
    """
    if pooling == "pooler":
        return _own_pooled(output, "image_pooling").flatten(1)  # [n, d] (convolutions: [n, d, 1, 1])
    states = output.last_hidden_state
    if states.ndim == 4:
        if pooling == "cls":
            raise EncoderError("image_pooling: cls needs an encoder with a class token. Set image_pooling: mean.")
        return states.mean(dim=(2, 3))  # [n, d, height, width] -> [n, d]
    return states[:, 0] if pooling == "cls" else states.mean(dim=1)  # [n, positions, d] -> [n, d]


def pool_text(output: ModelOutput, pooling: str, mask: torch.Tensor) -> torch.Tensor:
    """Pool the states of a text encoder.

    Parameters
    ----------
    output : ModelOutput
        ``last_hidden_state`` is [n, l, d].
    pooling : {"mean", "cls", "pooler"}
        Mean over the positions of the mask; first position; the encoder's own pooled output.
    mask : Tensor[n, l]
        1 for text, 0 for padding.

    Returns
    -------
    Tensor[n, d]

    Raises
    ------
    EncoderError
        If the encoder has no pooled output.
    """
    if pooling == "pooler":
        return _own_pooled(output, "text_pooling")
    states = output.last_hidden_state
    if pooling == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)  # [n, l, 1]
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)  # [n, d]


def _own_pooled(output: ModelOutput, setting: str) -> torch.Tensor:
    pooled = getattr(output, "pooler_output", None)
    if pooled is None:
        raise EncoderError(f"{setting}: this encoder has no pooled output of its own. Set {setting}: mean or cls.")
    return pooled
