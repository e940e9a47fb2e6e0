"""What the machine can do: its name, its rate of matrix products, the operations of a step, the memory of a process."""

import gc
import platform
import resource
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.parts import synchronise
from recbole_perpeft.utils.cores import n_cores

_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
_MATRIX_REPEATS = 7
_PACKAGES = ("torch", "transformers", "peft", "recbole", "numpy", "pillow")


def describe(device: torch.device) -> dict:
    """Names and versions of what a figure depends on."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": n_cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product: the median of a few."""
    side = _MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(1 + _MATRIX_REPEATS):
        synchronise(device)
        start = time.perf_counter()
        left @ right
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(seconds[1:])


def operation_counter() -> FlopCounterMode:
    """Counts floating-point operations of matrix products, convolutions and attention while it is entered."""
    aten = torch.ops.aten

    def forward(query, key, value, *args, out_shape=None, **kwargs):
        return sdpa_flop_count(query, key, value)

    def backward(gradient, query, key, value, *args, out_shape=None, **kwargs):
        return sdpa_backward_flop_count(gradient, query, key, value)

    cpu = {  # torch itself counts the attention kernels of GPUs only
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    return FlopCounterMode(display=False, custom_mapping=cpu)


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has held: of the GPU, or resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss starts from the size of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def tensor_bytes(device: torch.device) -> int:
    """Memory of all tensors that are alive on ``device``."""
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    storages = {}
    for thing in gc.get_objects():
        # not isinstance, which would ask lazy modules and the like for their class
        if issubclass(type(thing), torch.Tensor) and thing.device.type == device.type:
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())
