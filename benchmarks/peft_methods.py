"""Every PEFT method with its defaults: what one group's module trains, in the ViT-B/32 configuration of CLIP.

    python benchmarks/peft_methods.py

Counts parameters of real modules in a model with random weights. At the end: what eight groups of LoRA on all layers
add to the foundation model, with and without their projectors. Needs about 4 GB and a few minutes.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

from benchmarks.synthetic import make_shop  # noqa: E402
from recbole_perpeft.encoder import EncoderError, ItemEncoder, build_item_encoder, load_foundation  # noqa: E402
from recbole_perpeft.encoder.peft.methods import usable_peft_types  # noqa: E402
from recbole_perpeft.model.projector import projector  # noqa: E402
from recbole_perpeft.trainer.stage_report import count  # noqa: E402

HIDDEN, INNER = 32, 64  # the paper's widths of the projector
GROUPS = 8


def build(folder: Path, method: str, num_groups: int) -> ItemEncoder:
    """An item encoder on all layers of a newly loaded CLIP; it is counted, and never run."""
    foundation = load_foundation(encoder=str(folder))
    with contextlib.redirect_stderr(io.StringIO()):  # some methods show bars of their own
        return build_item_encoder(foundation, None, method, {}, num_groups)


def module_size(encoder: ItemEncoder) -> int:
    """Trained parameters of one group's module."""
    return count(parameter for _, parameter in encoder.adapter_parameters(0))


def adapted_layers(encoder: ItemEncoder) -> str:
    """Short names of the layers that have a module."""
    names = {name.split(".")[-1] for name, module in encoder.foundation.model.named_modules()
             if hasattr(module, "base_layer") or hasattr(module, "modules_to_save")}  # fmt: skip
    return ", ".join(sorted(names)) or "none"


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        shop = make_shop(Path(root), "vit-b-32", 20, 20, 1, 0)
        print("| `peft_type` | parameters of a group | share | default layers |\n|---|---|---|---|")
        for method in [*usable_peft_types(), "IISAN"]:
            try:
                encoder = build(shop.encoder, method, 1)
            except EncoderError as error:
                print(
                    f"| {method} | does not fit: {str(error).split('model ')[-1].split(' Correct')[0]} | | |",
                    flush=True,
                )
                continue
            size, frozen = module_size(encoder), encoder.foundation.num_parameters
            layers = "side networks" if method == "IISAN" else adapted_layers(encoder)
            print(f"| {method} | {size:,} | {100 * size / frozen:.3f} % | {layers} |", flush=True)
        encoder = build(shop.encoder, "LORA", GROUPS)
    frozen = encoder.foundation.num_parameters
    modules = count(encoder.peft_parameters())
    projectors = GROUPS * count(projector(encoder.feature_dim, INNER, HIDDEN).parameters())
    print(f"\n{GROUPS} groups of LoRA r 4 on a foundation model of {frozen:,} parameters add {modules:,}, "
          f"{100 * modules / frozen:.2f} %; with their projectors {modules + projectors:,}, "
          f"{100 * (modules + projectors) / frozen:.2f} %")  # fmt: skip


if __name__ == "__main__":
    main()
