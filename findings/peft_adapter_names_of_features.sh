#!/bin/bash
# peft 0.21.2 with transformers 5.24.0: get_text_features and get_image_features let adapter_names pass, and use one of
# the adapters for all rows.
#
# A batch whose rows go through different LoRA adapters is model(..., adapter_names=[...]). Features of a dual encoder
# are had by get_text_features and get_image_features. PeftModel hands these on to the model inside, so nothing of peft
# sees the argument. The model inside does not refuse it either: these methods take any keyword and hand it down to the
# layers, where nobody reads it. Every row then has the features of the active adapter, "__base__" too. The same
# arguments to the model itself give text_embeds and image_embeds by the adapters that are named.
#
# Cure: set_adapter, and one call for each adapter; or the model itself, with texts and pictures.
#
# Output seen (peft 0.21.2, torch 2.13.0, transformers 5.24.0, Python 3.11), LoRA on q_proj and v_proj, for three rows
# adapter_names=["a", "b", "__base__"] while a is active:
#   model        call                    rows off from their own adapter  rows off from the active one
#   CLIPModel    get_text_features       1.50                             0.00
#   CLIPModel    get_image_features      1.06                             0.00
#   CLIPModel    model().text_embeds     0.00                             1.50
#   CLIPModel    model().image_embeds    0.00                             1.06
#   SiglipModel  get_text_features       1.20                             0.00
#   SiglipModel  get_image_features      1.25                             0.00
#   SiglipModel  model().text_embeds     0.00                             1.20
#   SiglipModel  model().image_embeds    0.00                             1.25
#
# Fails if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "peft==0.21.2" "torch==2.13.0" "transformers==5.24.0"
"$place/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = LAYERS | {"vocab_size": 100, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 99}
PICTURE = LAYERS | {"image_size": 32, "patch_size": 8}
NAMES = ["a", "b", "__base__"]
CALLS = ("get_text_features", "get_image_features", "model().text_embeds", "model().image_embeds")


@torch.no_grad()
def features(model, **named):
    """What the four calls of CALLS give, each [3, d] with rows of length 1."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 99, (3, 8), generator=generator)
    ids[:, -1] = 99
    pixels = torch.randn(3, 3, 32, 32, generator=generator)
    output = model(input_ids=ids, pixel_values=pixels, **named)
    texts = model.get_text_features(input_ids=ids, **named).pooler_output
    pictures = model.get_image_features(pixel_values=pixels, **named).pooler_output
    found = (texts, pictures, output.text_embeds, output.image_embeds)
    return [torch.nn.functional.normalize(rows, dim=1) for rows in found]


@torch.no_grad()
def train(model, adapter):
    """Stands for training: other numbers in the adapter's parameters."""
    model.set_adapter(adapter)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.3 * torch.randn(parameter.shape))


print("model        call                    rows off from their own adapter  rows off from the active one")
seen = []
for base in (CLIPModel, SiglipModel):
    torch.manual_seed(0)
    config = {CLIPModel: CLIPConfig, SiglipModel: SiglipConfig}[base](text_config=TEXT, vision_config=PICTURE)
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], r=4)
    model = get_peft_model(base(config), lora, adapter_name="a").eval()
    model.add_adapter("b", lora)
    alone = {}
    for adapter in ("a", "b"):
        train(model, adapter)
        alone[adapter] = features(model)
    with model.disable_adapter():
        alone["__base__"] = features(model)
    model.set_adapter("a")
    mixed = features(model, adapter_names=NAMES)
    for i, call in enumerate(CALLS):
        own = torch.stack([alone[name][i][row] for row, name in enumerate(NAMES)])
        off = [float((mixed[i] - rows).norm(dim=1).max()) for rows in (own, alone["a"][i])]
        seen.append((call.startswith("get"), *(distance > 0.01 for distance in off)))
        print(f"{base.__name__:12s} {call:23s} {off[0]:<32.2f} {off[1]:.2f}")
assert all(line in ((True, True, False), (False, False, True)) for line in seen), "the behaviour has changed"
PYTHON
