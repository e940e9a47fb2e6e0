"""Groups' adapters in peft's own format, on the models that transformers loads; and back into an encoder of ours."""

import json

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoModel

from recbole_perpeft.serving.adapter_files import write_adapters
from tests.training import scatter_groups

ITEMS = torch.arange(1, 6)
METHODS = {
    "LORA": {},
    "top layers": {"peft_layers": 1},
    "all-linear": {"peft_config": {"r": 2, "target_modules": "all-linear", "rank_pattern": {"fc1": 3}}},
    "IA3": {"peft_type": "IA3", "peft_config": None},
    "LN_TUNING": {"peft_type": "LN_TUNING", "peft_config": None},
    "OFT": {"peft_type": "OFT", "peft_config": {"r": 4, "oft_block_size": 0}},
    "whole modules": {"peft_config": {"target_modules": ["v_proj"], "modules_to_save": ["text_projection"]}},
}


@pytest.fixture
def written(prepare, tmp_path):
    """``written(**settings)`` gives an encoder whose modules differ, and the folder with its adapters."""

    def make(**settings):
        _, trainer, train_data, _, _ = prepare(**settings)
        scatter_groups(trainer.model, train_data)
        encoder = trainer.model.eval().item_tower.encoder
        write_adapters(encoder, tmp_path / "adapters", {"": "org/clip", "image": "org/vit", "text": "org/bert"})
        return encoder, tmp_path / "adapters"

    return make


def inputs(encoder, folder):
    """Of five items, as transformers' models take them: pixel values, and tokens with their mask."""
    batch, processor = encoder.content.batch(ITEMS), AutoImageProcessor.from_pretrained(folder)
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    tokens = {key: batch[key] for key in ("input_ids", "attention_mask")}
    return (batch["pixels"].float() / 255 - mean) / std, tokens


def adapted(base, folder, adapters):
    return PeftModel.from_pretrained(AutoModel.from_pretrained(base / folder), adapters).eval()


def both_features(model, pixels, tokens):
    """Of a dual encoder, image and text side by side, [n, d]."""
    image = model.get_image_features(pixel_values=pixels).pooler_output
    text = model.get_text_features(**tokens).pooler_output
    return torch.cat([normalize(image), normalize(text)], dim=1)


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_peft_opens_a_groups_adapter_on_the_plain_dual_encoder(written, tiny_root, method):
    encoder, folder = written(**METHODS[method])
    pixels, tokens = inputs(encoder, tiny_root / "tiny" / "clip")
    seen = []
    for group in (0, 2):
        model = adapted(tiny_root / "tiny", "clip", folder / f"group_{group}")
        seen.append(both_features(model, pixels, tokens))
        torch.testing.assert_close(seen[-1], encoder.encode(ITEMS, group), atol=1e-5, rtol=0)
    assert (seen[0] - seen[1]).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["LORA", "IA3", "whole modules"])
@torch.no_grad()
def test_peft_holds_the_adapters_of_all_groups_and_set_adapter_chooses(written, tiny_root, method):
    encoder, folder = written(**METHODS[method])
    content = inputs(encoder, tiny_root / "tiny" / "clip")
    model = AutoModel.from_pretrained(tiny_root / "tiny" / "clip")
    model = PeftModel.from_pretrained(model, folder / "group_0", adapter_name="group_0").eval()
    for group in range(1, encoder.num_groups):
        model.load_adapter(folder / f"group_{group}", adapter_name=f"group_{group}")
    for group in range(encoder.num_groups):
        model.set_adapter(f"group_{group}")
        torch.testing.assert_close(both_features(model, *content), encoder.encode(ITEMS, group), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["LORA", "IA3", "LN_TUNING"])
@torch.no_grad()
def test_peft_opens_a_groups_two_adapters_on_two_encoders(written, tiny_root, pair, method):
    encoder, folder = written(**METHODS[method], **pair)
    pixels, tokens = inputs(encoder, tiny_root / "tiny" / "vit")
    image = adapted(tiny_root / "tiny", "vit", folder / "group_1" / "image")(pixel_values=pixels)
    text = adapted(tiny_root / "tiny", "bert", folder / "group_1" / "text")(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    parts = [image.last_hidden_state[:, 0], (text * mask).sum(dim=1) / mask.sum(dim=1)]
    features = torch.cat([normalize(part) for part in parts], dim=1)
    torch.testing.assert_close(features, encoder.encode(ITEMS, 1), atol=1e-5, rtol=0)


def test_an_adapter_names_its_base_and_its_layers_in_full(written):
    _, folder = written(peft_layers=1)
    config = json.loads((folder / "group_1" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/clip"
    assert config["auto_mapping"]["base_model_class"] == "CLIPModel"
    assert config["target_modules"] == [
        f"{tower}_model.encoder.layers.1.self_attn.{name}"
        for tower in ("text", "vision")
        for name in ("q_proj", "v_proj")
    ]
