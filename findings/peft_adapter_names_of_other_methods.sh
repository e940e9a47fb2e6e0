#!/bin/bash
# peft 0.21.2: a batch of several adapters (adapter_names) is a batch of one, without a word, with most methods.
#
# model(x, adapter_names=["a", "b"]) runs each row through the adapter that is named for it. LoRA, GLoRA and RoAd do so,
# and refuse a name that they do not know. PeftModel takes the argument away before any method sees the call, and the
# other methods have nothing that asks for it. So with (IA)3, VeRA, OFT, LoHa and others every row goes through whichever
# adapter is active, "__base__" too, and so does a name that no adapter has. (Where LoRA itself cannot do it, with DoRA
# or in training, it raises an error.) HiRA has the hook that would do it, and nothing calls it. Who serves users of
# several groups in one batch gives all of them the module of one group.
#
# Cure: one call for each adapter, after set_adapter; or adapters converted by peft's save_as_lora, each from a model
# that holds no other (see peft_save_as_lora_takes_other_modules.sh).
#
# Output seen (peft 0.21.2, torch 2.13.0, transformers 5.24.0, Python 3.11), three rows, of adapter a, b and of none:
#   method   adapters apart by  rows that are of their adapter  rows that are of the active one  name that no adapter has
#   LORA     3.95               3 of 3                          1 of 3                           refused
#   ROAD     2.03               3 of 3                          1 of 3                           refused
#   IA3      0.94               1 of 3                          3 of 3                           accepted
#   VERA     1.68               1 of 3                          3 of 3                           accepted
#   OFT      3.54               1 of 3                          3 of 3                           accepted
#   LOHA     2.59               1 of 3                          3 of 3                           accepted
#   HIRA     0.92               1 of 3                          3 of 3                           accepted
#   LN       1.80               1 of 3                          3 of 3                           accepted
#
# Fails if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "peft==0.21.2" "torch==2.13.0" "transformers==5.24.0"
"$place/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from peft import (
    HiraConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoraConfig,
    OFTConfig,
    RoadConfig,
    VeraConfig,
    get_peft_model,
)
from torch import nn

METHODS = {
    "LORA": LoraConfig(target_modules=["0"], r=4),
    "ROAD": RoadConfig(target_modules=["0"], group_size=16),
    "IA3": IA3Config(target_modules=["0"], feedforward_modules=[]),
    "VERA": VeraConfig(target_modules=["0"], r=4),
    "OFT": OFTConfig(target_modules=["0"], oft_block_size=8),
    "LOHA": LoHaConfig(target_modules=["0"], r=4),
    "HIRA": HiraConfig(target_modules=["0"], r=4),
    "LN": LNTuningConfig(target_modules=["1"]),
}


@torch.no_grad()
def train(model, adapter):
    """Stands for training: other numbers in the adapter's parameters."""
    model.set_adapter(adapter)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.3 * torch.randn(parameter.shape))


@torch.no_grad()
def rows_of(config, x):
    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32)), config, adapter_name="a").eval()
    model.add_adapter("b", config)
    alone = {}
    for adapter in ("a", "b"):
        train(model, adapter)
        alone[adapter] = model(x)
    with model.disable_adapter():
        alone["__base__"] = model(x)
    model.set_adapter("a")
    names = ["a", "b", "__base__"]
    mixed = model(x, adapter_names=names)
    own = sum(torch.allclose(row, alone[name][i], atol=1e-5) for i, (row, name) in enumerate(zip(mixed, names)))
    active = sum(torch.allclose(row, alone["a"][i], atol=1e-5) for i, row in enumerate(mixed))
    try:
        model(x, adapter_names=["no such adapter"] * len(x))
        unknown = "accepted"
    except ValueError:
        unknown = "refused"
    return float((alone["a"] - alone["b"]).abs().max()), own, active, unknown


x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
columns = ("adapters apart by", "rows that are of their adapter", "rows that are of the active one")
print("  ".join(("method ", *columns, "name that no adapter has")))
seen = {}
for method, config in METHODS.items():
    apart, own, active, unknown = seen[method] = rows_of(config, x)
    print(f"{method:8s} {apart:<18.2f} {f'{own} of 3':31s} {f'{active} of 3':32s} {unknown}")
assert all(apart > 0.01 for apart, *_ in seen.values())
assert all(seen[method][1:] == (3, 1, "refused") for method in ("LORA", "ROAD")), "the behaviour has changed"
others = [rest for method, (_, *rest) in seen.items() if method not in ("LORA", "ROAD")]
assert all(rest == [1, 3, "accepted"] for rest in others), "the behaviour has changed"
PYTHON
