#!/bin/bash
# peft 0.21.2: save_as_lora writes another adapter's modules_to_save beside the adapter that it was asked for.
#
# save_as_lora(folder, model, rank, adapter_name="a") converts an adapter of another method to LoRA. Where adapters train
# whole modules too (modules_to_save, as a classifier's head), it goes over the copies of all adapters and writes each
# under the same name, so that the one that was added last is left. The file has the adapted layers of "a" and the head
# of "b". It is opened without a warning, and scores by two halves of different models. save_pretrained, of the same
# model, writes the right one. (Of a head of several layers one is left, by the same loop, and the file cannot be
# opened.)
#
# Cure: convert an adapter from a model that holds no other: load it alone.
#
# Output seen (peft 0.21.2, torch 2.13.0, transformers 5.24.0, Python 3.11); rank 32 of 32 x 32 loses nothing:
#   written by save_pretrained                          adapter a, read back: off by 0.00, its head is that of a
#   written by save_as_lora                             adapter a, read back: off by 2.92, its head is that of b
#   written by save_as_lora from a model of a alone     adapter a, read back: off by 0.00, its head is that of a
#
# Fails if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "peft==0.21.2" "torch==2.13.0" "transformers==5.24.0"
cd "$place"
"$place/venv/bin/python" -W ignore - <<'PYTHON'
import copy

import torch
from peft import LoHaConfig, PeftModel, get_peft_model, save_as_lora
from torch import nn


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.body(x).tanh())


@torch.no_grad()
def train(model, adapter):
    """Stands for training: other numbers in the adapter's parameters."""
    model.set_adapter(adapter)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.3 * torch.randn(parameter.shape))


torch.manual_seed(0)
base, x = Scorer(), torch.randn(5, 32)
config = LoHaConfig(target_modules=["body"], r=4, modules_to_save=["head"])
model = get_peft_model(copy.deepcopy(base), config, adapter_name="a").eval()
model.add_adapter("b", config)
for adapter in ("a", "b"):
    train(model, adapter)
model.set_adapter("a")
expected = model(x).detach()
heads = {adapter: copied.weight.detach() for adapter, copied in model.base_model.model.head.modules_to_save.items()}

model.save_pretrained("own")
save_as_lora("converted", model, rank=32, adapter_name="a")
alone = PeftModel.from_pretrained(copy.deepcopy(base), "own/a", adapter_name="a")
save_as_lora("converted_alone", alone, rank=32, adapter_name="a")
seen = []
for folder, how in (
    ("own/a", "save_pretrained"),
    ("converted", "save_as_lora"),
    ("converted_alone", "save_as_lora from a model of a alone"),
):
    read = PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()
    off = float((read(x).detach() - expected).abs().max())
    head = read.base_model.model.head.modules_to_save["default"].weight
    whose = [adapter for adapter, weight in heads.items() if torch.equal(head, weight)]
    seen.append((off > 1e-4, *whose))
    print(f"written by {how:40s} adapter a, read back: off by {off:.2f}, its head is that of {' and '.join(whose)}")
assert seen == [(False, "a"), (True, "b"), (False, "a")], "the behaviour has changed"
PYTHON
