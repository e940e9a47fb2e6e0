"""Upper layers on kept states of the lower ones give what the whole model gives, and the lower ones run once."""

import copy
import shutil

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertModel

from recbole_perpeft.encoder import EncoderError, FoundationModel, build_item_encoder
from tests.encoder.conftest import ITEMS, SOURCES, TITLES, all_parameters, train, trained

PEFTS = {"LORA": {"lora_dropout": 0.0}, "IA3": None}
FLIPPED = ITEMS.flip(0)


def whole(encoder, items, group):
    """Features from one pass of the whole model, no states kept."""
    with encoder.activate(group):
        return encoder.foundation(encoder.content.batch(items))


def stacks(encoder):
    """The layers of the image and the text tower."""
    model = encoder.foundation.model
    if hasattr(model, "text"):
        image = next(m for m in model.image.modules() if isinstance(m, nn.ModuleList))
        return image, model.text.encoder.layer
    return model.vision_model.encoder.layers, model.text_model.encoder.layers


def counted(layer):
    """List that fills with the batch sizes that ``layer`` runs on."""
    seen = []
    layer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("peft_type", PEFTS)
def test_kept_states_give_the_features_and_gradients_of_the_whole_model(build, peft_type, source):
    encoder = trained(build(peft_type, source, peft_config=PEFTS[peft_type], peft_layers=1), steps=4)
    towards = torch.randn(len(ITEMS), encoder.feature_dim, generator=torch.Generator().manual_seed(3))
    parameters = [parameter for _, parameter in encoder.adapter_parameters(1)]
    features, expected = encoder.encode(FLIPPED, 1), whole(encoder, FLIPPED, 1)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(features, whole(encoder, FLIPPED, 0), atol=1e-2)
    gradients = torch.autograd.grad((features * towards).sum(), parameters)
    of_whole = torch.autograd.grad((expected * towards).sum(), parameters)
    for own, other in zip(gradients, of_whole, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)
    assert max(gradient.abs().max() for gradient in gradients) > 0.01
    with torch.no_grad():
        merged = encoder.eval().encode(FLIPPED, 1)
    torch.testing.assert_close(merged, expected.detach(), atol=1e-5, rtol=1e-5)


def test_kept_states_in_bf16_stay_close_to_the_whole_model(build):
    encoder = trained(build(peft_config=PEFTS["LORA"], peft_layers=1, dtype=torch.bfloat16))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = whole(encoder, ITEMS, 1)
    features = encoder.encode(ITEMS, 1)
    assert features.dtype == torch.float32
    assert nn.functional.cosine_similarity(features[:, :8], expected[:, :8]).min() > 0.999
    assert nn.functional.cosine_similarity(features[:, 8:], expected[:, 8:]).min() > 0.999


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("peft_type", PEFTS)
def test_only_the_top_layer_and_what_is_above_it_has_adapters(build, peft_type, source):
    encoder = build(peft_type, source, peft_layers=1)
    for stack in stacks(encoder):
        assert not [name for name, _ in stack[0].named_parameters() if "group_" in name]
        assert [name for name, _ in stack[1].named_parameters() if "group_2" in name]


@pytest.mark.parametrize("source", SOURCES)
def test_lower_layers_run_once_per_item_ever(build, tmp_path, source):
    encoder = build(source=source, cache=tmp_path, peft_layers=1)
    lower, upper = [counted(stack[0]) for stack in stacks(encoder)], [counted(stack[1]) for stack in stacks(encoder)]
    features = encoder.encode(ITEMS, 0)
    # all items with the padding item; one more tells the shape of each store, one the positions of a picture
    assert [sum(runs) for runs in lower] == [len(TITLES) + 3, len(TITLES) + 2]
    assert encoder.item_features.items_prepared == 2 * (len(TITLES) + 2)
    for runs in (*lower, *upper):
        runs.clear()
    train(encoder, torch.optim.AdamW(all_parameters(encoder), lr=0.01), group=1, steps=2, seed=0)
    assert lower == [[], []]
    assert [sum(runs) for runs in upper] == [2 * len(ITEMS)] * 2
    again = build(source=source, cache=tmp_path, peft_layers=1)
    lower = [counted(stack[0]) for stack in stacks(again)]
    torch.testing.assert_close(again.encode(ITEMS, 0), features, atol=1e-6, rtol=1e-5)
    assert again.item_features.items_prepared == 0
    assert [sum(runs) for runs in lower] == [1, 0]  # how many positions a picture has
    other = build(source=source, cache=tmp_path, peft_layers=1, dtype=torch.bfloat16)
    other.encode(ITEMS, 0)
    assert other.item_features.items_prepared == encoder.item_features.items_prepared


@pytest.mark.parametrize("peft_layers", [2, 7])
def test_as_many_layers_as_there_are_cut_nothing(build, peft_layers):
    torch.manual_seed(4)
    encoder = build(peft_layers=peft_layers).eval()
    torch.manual_seed(4)
    uncut = build().eval()
    assert encoder.foundation.cuts == {}
    assert encoder.state_dict().keys() == uncut.state_dict().keys()
    assert torch.equal(trained(encoder).encode(ITEMS, 1), trained(uncut).encode(ITEMS, 1))
    assert encoder.item_features.items_prepared == 0


@pytest.fixture
def uneven(models, tmp_path):
    """A pair of a ViT with two layers and a BERT with four."""
    folder = tmp_path / "deep"
    shutil.copytree(models / "bert", folder)
    torch.manual_seed(0)
    BertModel(BertConfig.from_pretrained(folder, num_hidden_layers=4, initializer_range=0.3)).save_pretrained(folder)
    return {"image_encoder": "vit", "text_encoder": folder}


@pytest.mark.parametrize(("peft_layers", "cuts"), [(1, {"image": 1, "text": 3}), (3, {"text": 1})])
def test_towers_of_unequal_depth_keep_the_same_number_of_top_layers(build, uneven, peft_layers, cuts):
    encoder = trained(build(source=uneven, peft_config=PEFTS["LORA"], peft_layers=peft_layers))
    assert {modality: cut.first for modality, cut in encoder.foundation.cuts.items()} == cuts
    for modality, stack in zip(("image", "text"), stacks(encoder), strict=True):
        adapted = [bool([n for n, _ in layer.named_parameters() if "group_0" in n]) for layer in stack]
        assert adapted == [index >= cuts.get(modality, 0) for index in range(len(stack))]
    torch.testing.assert_close(encoder.encode(ITEMS, 1), whole(encoder, ITEMS, 1), atol=1e-5, rtol=1e-5)


TOP = {
    f"{tower}.encoder.layers.1.{layer}"
    for tower in ("vision_model", "text_model")
    for layer in ("self_attn.q_proj", "self_attn.v_proj")
}
REST = {
    f"{tower}.encoder.layers.1.{layer}"
    for tower in ("vision_model", "text_model")
    for layer in ("self_attn.k_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj", "v_proj"], TOP),
        (r".*\.(q|v)_proj", TOP),
        (r"(text|vision)_model\..*layers\.[01]\.self_attn\.(q|v)_proj", TOP),
        (["layers.1.self_attn.q_proj", "layers.0.self_attn.v_proj"], {name for name in TOP if "q_proj" in name}),
        ("all-linear", TOP | REST | {"visual_projection", "text_projection"}),
    ],
)
def test_target_modules_of_every_form_are_restricted_to_what_is_above_the_cut(build, targets, expected):
    encoder = build(peft_config={"target_modules": targets}, peft_layers=1)
    adapted = {name.split(".lora_")[0] for name, _ in encoder.adapter_parameters(0)}
    assert {name.removeprefix("foundation.model.") for name in adapted} == expected


def test_targets_in_lower_layers_only_are_refused(build):
    with pytest.raises(EncoderError, match="peft_layers: none of target_modules is in these layers. Set .* higher"):
        build(peft_config={"target_modules": r".*layers\.0\..*q_proj"}, peft_layers=1)


class Layer(nn.Module):
    """Also gives what the next layer needs, as layers do that hand on a position bias."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, states, bias):
        return self.linear(states) + bias, bias


class Tower(nn.Module):
    """A text tower with layers that need more than the states of the one before."""

    def __init__(self, n_layers=2):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(64, 16)
        self.layers = nn.ModuleList(Layer() for _ in range(n_layers))

    def forward(self, ids):
        states, bias = self.words(ids), torch.ones(16)
        for layer in self.layers:
            states, bias = layer(states, bias)
        return states


class Residual(Tower):
    """The output adds up what all layers give."""

    def forward(self, ids):
        states = [self.words(ids)]
        for layer in self.layers:
            output = layer(states[-1], torch.ones(16))
            states.append(output[0])
        return sum(states)


class Dual(nn.Module):
    """Behind the interface of a Hugging Face dual encoder."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def get_text_features(self, input_ids, attention_mask):
        return self.tower(input_ids)[:, 0]


@pytest.mark.parametrize(
    ("tower", "reason"),
    [
        (Residual(), "in two parts it gives other features"),
        (Tower(), "ValueError: not enough values to unpack"),
        (Tower(n_layers=1), "it has no stack of layers"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused_and_runs_whole(models, content_for, tower, reason):
    def build(**options):
        tokenizer = AutoTokenizer.from_pretrained(models / "bert")
        foundation = FoundationModel(Dual(copy.deepcopy(tower)), "odd", None, tokenizer, 16, False)
        settings = {"target_modules": ["linear"]}
        return build_item_encoder(foundation, content_for(foundation), "LORA", settings, 2, **options)

    message = rf"peft_layers: the text encoder of odd cannot be cut between layers \({reason}.*Set peft_layers: ~"
    with pytest.raises(EncoderError, match=message):
        build(peft_layers=1)
    assert build().encode(ITEMS, 1).isfinite().all()
