"""Frozen multimodal foundation models: pictures and texts in, one content feature per item out.

As in the paper, the L2-normalised embeddings of image and text are concatenated.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import ModelOutput

from recbole_perpeft.encoder.foundation.fingerprint import hash_of, of_features
from recbole_perpeft.encoder.foundation.pair import EncoderPair
from recbole_perpeft.encoder.foundation.precision import cast_multiplications
from recbole_perpeft.encoder.foundation.processors import blank_pixels, pixel_affine
from recbole_perpeft.utils.errors import EncoderError, first_line

if TYPE_CHECKING:  # which are made of a foundation model
    from recbole_perpeft.encoder.foundation.last_layer import LastLayer
    from recbole_perpeft.encoder.foundation.layer_cut import LayerCut

MODALITIES = ("image", "text")


class FoundationModel(nn.Module):
    """A frozen encoder of pictures and texts.

    Parameters
    ----------
    model : nn.Module
        What peft wraps: a Hugging Face dual encoder (CLIP, SigLIP, ALIGN …) or an
        :class:`EncoderPair`. Has ``get_image_features``, ``get_text_features``.
    name : str
        Where the weights came from.
    image_processor : BaseImageProcessor or None
        None without the image modality.
    tokenizer : PreTrainedTokenizerBase or None
        None without the text modality.
    max_text_length : int or None
        Tokens read of a text.
    fixed_text_length : bool
        True if text must be padded to ``max_text_length`` and has no attention mask (SigLIP).

    Attributes
    ----------
    modalities : tuple of str
        "image" and "text", those in use, in this order.
    widths : dict of str to int
        Length of each modality's feature, in their order.
    feature_dim : int
        Length of a feature, all modalities together.
    num_parameters : int
        Frozen parameters.
    reads_mask : bool
        Whether texts need their attention mask: not with a fixed length, nor where no position sees later ones and
        padding comes last (CLIP). Without a mask a GPU can use flash attention, and need not look into it.
    only_plain : bool
        Whether its features are right under plain attention only, see
        :func:`~recbole_perpeft.encoder.foundation.feature_checks.check_features`.
    cuts : dict of str to LayerCut
        Modalities whose encoder was split, see :func:`~recbole_perpeft.encoder.foundation.layer_cut.cut_towers`.
    last_layers : dict of str to LastLayer
        Modalities whose last layer runs at one position, see
        :func:`~recbole_perpeft.encoder.foundation.last_layer.trim_towers`.
    below_cut : set of str
        Names inside ``model`` of the modules that have done their work below the cuts.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        image_processor: BaseImageProcessor | None,
        tokenizer: PreTrainedTokenizerBase | None,
        max_text_length: int | None,
        fixed_text_length: bool,
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.name = name
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.max_text_length = max_text_length
        self.fixed_text_length = fixed_text_length
        in_use = (image_processor is not None, tokenizer is not None)
        self.modalities = tuple(modality for modality, used in zip(MODALITIES, in_use, strict=True) if used)
        if image_processor is not None:
            scale, shift = pixel_affine(image_processor)
            self.register_buffer("pixel_scale", scale, persistent=False)  # [1, 3, 1, 1]
            self.register_buffer("pixel_shift", shift, persistent=False)  # [1, 3, 1, 1]
            self.register_buffer("blank_pixels", blank_pixels(image_processor), persistent=False)  # [1, 3, H, W]
        self.only_plain = False
        self.reads_mask = not fixed_text_length
        self._towers = {modality: self._trace(modality) for modality in self.modalities}
        self._drop_unused()
        self.reads_mask = self._needs_mask()
        self.widths = {modality: width for modality, (_, width) in self._towers.items()}
        self.feature_dim = sum(self.widths.values())
        self.num_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        # Noted before any adapter comes in: what never leaves eval mode, and what fingerprint() is of.
        self._base_modules = list(self.model.modules())
        self._fingerprint = hash_of(self.model.state_dict().items(), [*self._settings()])
        self.cuts: dict[str, LayerCut] = {}
        self.last_layers: dict[str, LastLayer] = {}
        self.below_cut: set[str] = set()

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Encode a batch of items by all modalities.

        Parameters
        ----------
        batch : dict of Tensor
            ``"pixels"`` uint8 [n, 3, H, W] from the image processor without rescaling and normalisation,
            ``"input_ids"`` int64 [n, l], ``"attention_mask"`` int64 [n, l] (absent with a fixed text length).

        Returns
        -------
        Tensor[n, feature_dim]
            float32; the part of each modality has length 1.
        """
        return torch.cat([self.encode(modality, batch) for modality in self.modalities], dim=-1)

    def encode(self, modality: str, batch: dict[str, torch.Tensor], states: torch.Tensor | None = None) -> torch.Tensor:
        """Encode a batch of items by one modality.

        Parameters
        ----------
        modality : str
            One of :attr:`modalities`.
        batch : dict of Tensor
            As in :meth:`forward`. With ``states``, pixels are not read and may be left out.
        states : Tensor[n, positions, d], optional
            What :meth:`lower_states` gave: only the layers above the cut run.

        Returns
        -------
        Tensor[n, d]
            float32, of length 1.
        """
        if states is not None and modality == "image":
            batch = {"pixels": self.blank_pixels}  # one blank picture goes as far as the cut for all
        run = functools.partial(self._encode, modality, batch)
        last = self.last_layers.get(modality)
        with last.trimmed(batch) if last else contextlib.nullcontext():
            features = run() if states is None else self.cuts[modality].resume(run, states.float())
        return F.normalize(features.float(), dim=-1)

    def lower_states(self, modality: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """What enters the first layer above the cut, [n, positions, d]; for a modality in :attr:`cuts`."""
        return self.cuts[modality].states(lambda: self._encode(modality, batch))

    def cast(self, dtype: torch.dtype, keep: set[nn.Module]) -> None:
        """Hold the frozen weights that are multiplied in ``dtype``, all but those of the layers in ``keep``."""
        cast_multiplications(self._base_modules, dtype, keep)

    def plain_attention(self) -> None:
        """Compute attention by matrix products; torch's fused one is for GPUs, and for fp32 on a CPU.

        Its backward pass in bf16 on a CPU is five to forty times slower than the products.
        """
        for model in self.model.modules():
            if isinstance(model, PreTrainedModel):
                model.set_attn_implementation("eager")

    def forbid_other_attention(self) -> None:
        """Keep to :meth:`plain_attention` for good."""
        self.plain_attention()
        self.only_plain = True
        self.reads_mask = self._needs_mask()

    def _encode(self, modality: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        device = self.device
        if modality == "image":
            pixels = batch["pixels"].to(device).float()
            normalised = pixels * self.pixel_scale + self.pixel_shift  # [n, 3, H, W]
            return _pooled(self.model.get_image_features(pixel_values=normalised))
        ids = batch["input_ids"].to(device)
        mask = batch["attention_mask"].to(device) if self.reads_mask else None
        return _pooled(self.model.get_text_features(input_ids=ids, attention_mask=mask))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.model.parameters()).device

    def train(self, mode: bool = True) -> "FoundationModel":
        """Set the mode of adapters; the frozen model's own dropouts stay off."""
        super().train(mode)
        for module in self._base_modules:
            module.training = False
        return self

    def fingerprint(self) -> str:
        """Return a hash over the frozen weights and what else their features depend on; adapters do not enter it."""
        return self._fingerprint

    def _settings(self) -> Iterator[object]:
        """What changes features and is no weight: the models' configurations, poolings, the scale of pixels."""
        for model in (self.model, *self.model.children()):
            if isinstance(config := getattr(model, "config", None), PreTrainedConfig):
                yield of_features(config.to_diff_dict())
        if isinstance(self.model, EncoderPair):
            yield [self.model.image_pooling, self.model.text_pooling]
        if "image" in self.modalities:
            yield [self.pixel_scale.tolist(), self.pixel_shift.tolist()]

    def children_of(self, modality: str) -> set[str]:
        """Return the names of the children of ``model`` that encode a modality."""
        return self._towers[modality][0]

    def tower_modules(self, modality: str) -> dict[str, nn.Module]:
        """Return the modules that encode a modality, by their names inside ``model``."""
        children = self.children_of(modality)
        return {name: m for name, m in self.model.named_modules() if name.split(".")[0] in children}

    def _trace(self, modality: str) -> tuple[set[str], int]:
        """Encode one blank item: which children of the model run, and how long is the feature?"""
        children = set()
        hooks = [
            child.register_forward_hook(lambda *_, name=name: children.add(name))
            for name, child in self.model.named_children()
        ]
        try:
            with torch.no_grad():
                features = self._encode(modality, self._blank_batch(modality))
            if features.ndim != 2 or not features.isfinite().all():
                raise ValueError(f"its features have shape {tuple(features.shape)} or are not finite")
        except EncoderError:
            raise
        except Exception as error:  # whatever an architecture that reads other inputs stumbles over
            setting = f"{modality}_encoder" if isinstance(self.model, EncoderPair) else "encoder"
            raise EncoderError(
                f"{setting}: {self.name} cannot encode a plain {modality} ({type(error).__name__}: "
                f"{first_line(error)}). Choose a model that turns one {modality} into one vector."
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        return children, features.shape[1]

    def _blank_batch(self, modality: str) -> dict[str, torch.Tensor]:
        return {"pixels": self.blank_pixels} if modality == "image" else self.tokens(["a"])

    def probe(self, modality: str) -> dict[str, torch.Tensor]:
        """A batch of two different items, one of them blank."""
        if modality == "image":
            blank = self.blank_pixels
            return {"pixels": torch.cat([blank, torch.arange(blank.numel()).view_as(blank).to(blank.dtype)])}
        return self.tokens(["a", "a b"])

    def tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """Texts as a batch, padded to the full length on the right, as content is."""
        return self.tokenizer(
            texts,
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=self.max_text_length,
            return_attention_mask=True,
            return_tensors="pt",
        )

    def _needs_mask(self) -> bool:
        """Whether a padded text is encoded otherwise without its mask than with it; a pair pools by it."""
        if self.fixed_text_length or "text" not in self.modalities or isinstance(self.model, EncoderPair):
            return not self.fixed_text_length
        texts = self.probe("text")
        with torch.no_grad():
            self.reads_mask = True
            masked = self._encode("text", texts)
            self.reads_mask = False
            bare = self._encode("text", texts)
        return not torch.allclose(masked, bare, atol=1e-5)

    def _drop_unused(self) -> None:
        """Free what no modality in use runs, so that no adapter lands in it either."""
        used = set().union(*(children for children, _ in self._towers.values()))
        for name, _ in list(self.model.named_children()):
            if name not in used:
                setattr(self.model, name, None)


def _pooled(output: torch.Tensor | ModelOutput) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output  # an object since transformers 5
