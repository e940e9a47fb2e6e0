"""Attention under groups' modules, against transformers' own of the model with the module merged by hand."""

import numpy as np
import pytest
import torch
from transformers import BertModel, CLIPModel

from recbole_perpeft.explain.attention import Attention, tokens_of, why_no_attention
from tests.tiny_models import save_tiny_bert

ITEM, GROUPS = 4, 3


def tokens(subject):
    content = subject.content
    ids = content.tokens[ITEM][: content.lengths[ITEM]]
    return ids, tokens_of(subject.encoder.foundation, subject.titles[ITEM], ids)


def merged(kind, folder, encoder, group, inside=""):
    """The model of ``folder`` with a group's module in its weights."""
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    name = f"group_{group}"
    with torch.no_grad():
        for place, layer in encoder.foundation.model.named_modules():
            if name in getattr(layer, "lora_A", {}):
                change = layer.lora_B[name].weight @ layer.lora_A[name].weight * layer.scaling[name]
                model.get_submodule(place.removeprefix(inside)).weight += change
            elif name in getattr(layer, "ia3_l", {}):
                weight = model.get_submodule(place.removeprefix(inside))
                scale = layer.ia3_l[name].flatten()
                if layer.is_feedforward:
                    weight.weight *= scale
                else:
                    weight.weight *= scale[:, None]
                    weight.bias *= scale
    return model


@pytest.mark.parametrize("settings", [{}, {"peft_layers": 1}, {"peft_type": "IA3", "peft_config": {}}])
def test_it_is_that_of_transformers_on_the_merged_model(subject, tiny_root, settings):
    found = subject(**settings)
    attention, (ids, title) = Attention(found.encoder), tokens(found)
    pixels = torch.tensor(found.content.pixels[ITEM])[None] / 255
    mean, std = (
        torch.tensor(getattr(found.encoder.foundation.image_processor, name))[:, None, None]
        for name in ("image_mean", "image_std")
    )
    of_groups = []
    for group in range(GROUPS):
        clip = merged(CLIPModel, tiny_root / "tiny" / "clip", found.encoder, group)
        with torch.no_grad():
            of_text = clip.text_model(torch.tensor(ids[None]).long(), output_attentions=True).attentions[-1]
            of_image = clip.vision_model((pixels - mean) / std, output_attentions=True).attentions[-1]
        expected = of_text[0, :, len(ids) - 1, 1:-1].mean(dim=0)  # the end token reads, start and end are special
        ours = attention.of_tokens(ITEM, title, group)
        assert ours == pytest.approx((expected / expected.sum()).numpy(), abs=1e-5)
        assert ours.sum() == pytest.approx(1, abs=1e-6)
        expected = of_image[0, :, 0, 1:].mean(dim=0).view(2, 2)  # the class token reads
        patches = attention.of_patches(ITEM, group)
        assert patches == pytest.approx((expected / expected.sum()).numpy(), abs=1e-5)
        of_groups.append((ours, patches))
    assert len(title.pieces) == len(ids) - 2
    assert "".join(title.pieces) == found.titles[ITEM].replace(" ", "")[: len(ids) - 2]
    for first, second in zip(of_groups[0], of_groups[1], strict=True):
        assert np.abs(first - second).max() > 1e-3


def test_a_mean_over_tokens_is_read_at_all_of_them(subject, tiny_root):
    save_tiny_bert(tiny_root / "tiny" / "bert")
    found = subject(encoder=None, text_encoder="bert", modalities=["text"])
    attention, (ids, title) = Attention(found.encoder), tokens(found)
    bert = merged(BertModel, tiny_root / "tiny" / "bert", found.encoder, 1, inside="text.")
    with torch.no_grad():
        weights = bert(torch.tensor(ids[None]).long(), output_attentions=True).attentions[-1]
    expected = weights[0].mean(dim=(0, 1))[1:-1]
    assert attention.of_tokens(ITEM, title, 1) == pytest.approx((expected / expected.sum()).numpy(), abs=1e-5)
    assert attention.of_patches(ITEM, 1) is None


def test_a_text_without_tokens_has_none(subject):
    found = subject()
    foundation = found.encoder.foundation
    nothing = tokens_of(foundation, "", np.array(foundation.tokenizer("")["input_ids"]))
    assert nothing.pieces == []
    assert Attention(found.encoder).of_tokens(ITEM, nothing, 0) is None


def test_encoders_without_attention_of_their_own_say_so(prepare):
    for settings, reason in (
        ({"peft_type": "NONE", "peft_config": None}, "FrozenItemEncoder leaves"),
        ({"peft_type": "IISAN", "peft_config": {"bottleneck": 4}}, "SideNetworkItemEncoder leaves"),
    ):
        assert reason in why_no_attention(prepare(**settings)[1].model.item_tower.encoder)
