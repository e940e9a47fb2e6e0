"""In which type of numbers the foundation model computes."""

from collections.abc import Iterable

import torch
from torch import nn

from recbole_perpeft.utils.errors import EncoderError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type that ``precision`` stands for on a device.

    Parameters
    ----------
    precision
        "fp32", "bf16", "fp16", or "auto": bf16 where the hardware multiplies it, else fp16 on a GPU and fp32 on a CPU.
    device
        Where the foundation model runs.

    Raises
    ------
    EncoderError
        If there is no such precision, or it is fp16 on a CPU.
    """
    if precision == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32
    if precision not in PRECISIONS:
        raise EncoderError(f"precision: {precision!r} is not known. Set auto, {', '.join(PRECISIONS)}.")
    if precision == "fp16" and device.type == "cpu":
        raise EncoderError("precision: fp16 needs a GPU. Set auto, bf16 or fp32.")
    return PRECISIONS[precision]


def _cpu_multiplies_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("arm_bf16"))


def cast_multiplications(modules: Iterable[nn.Module], dtype: torch.dtype, keep: set[nn.Module]) -> None:
    """Keep the weights of frozen linear layers and convolutions in ``dtype``, in place.

    Autocast would convert frozen weights anew at every step. Embeddings and norms, and with them the residual stream,
    stay as they are, and so do the layers of ``keep``.
    """
    for module in modules:
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and module not in keep:
            module.to(dtype)
