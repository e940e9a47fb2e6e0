"""The code of docs/extending.md runs as it stands, on a tiny shop, and does what its text says."""

import re

import numpy as np
import pytest
import torch
import yaml

from recbole_perpeft.quick_start import load
from tests.docs.pages import ROOT, blocks
from tests.tiny_data import random_sequences, write_atomic
from tests.tiny_models import save_tiny_clip
from tests.tiny_runs import TINY

_SECTIONS = re.split(r"^## ", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
_REGISTERED = {"GROUPINGS": "activity", "LOSSES": "HINGE", "ENCODERS": "FEATURE_ADAPTER"}
CODE = {section.partition("\n")[0]: "\n\n".join(blocks(section, "python")) for section in _SECTIONS}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """``execute(section)`` runs a section beside the data set ``shop`` and its ``shop.yaml``, and gives its names."""
    folder = write_atomic(tmp_path / "dataset", "shop", *random_sequences())
    save_tiny_clip(folder / "clip")
    # without validations the last epoch counts, one of stage 3, in which groups go their own ways
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump({**TINY, "encoder": "clip", "eval_step": 0}))
    monkeypatch.chdir(tmp_path)

    names = {"__name__": "extending"}

    def run_section(section: str) -> dict:
        exec(compile(CODE[section], f"docs/extending.md, {section}", "exec"), names)
        return names

    yield run_section
    for registry, name in _REGISTERED.items():  # other tests see what comes with the package
        names.get(registry, {}).pop(name, None)


def _loaded(names: dict):
    """Model and training data of a section's run, from its checkpoint, whose test score has to come back."""
    _, trainer, train_data, _, test_data = load(names["result"]["checkpoint"])
    assert trainer.evaluate(test_data) == names["result"]["test_result"]
    return trainer.model, train_data


def test_every_section_is_tested():
    assert list(CODE) == ["A backbone", "A PEFT method", "A grouping", "A loss", "An encoder"]


def test_a_backbone(execute):
    names = execute("A backbone")
    trainer, test_data = names["trainer"], names["data"][-1]
    assert trainer.evaluate(test_data) == names["result"]["test_result"]
    model = trainer.model
    sequences = torch.tensor([[1, 2, 5, 0], [3, 4, 5, 0], [3, 4, 6, 0]])  # the first two end alike
    with torch.no_grad(), model.item_tower.catalogue(0):
        user = model.forward(sequences, torch.tensor([3, 3, 3]))  # [3, d]
        assert torch.equal(user[0], user[1])
        assert not torch.equal(user[1], user[2])
        torch.testing.assert_close(user[0], model.item_tower.weight[5])


def test_a_peft_method(execute):
    model, _ = _loaded(execute("A PEFT method"))
    config = model.item_tower.encoder.peft_model.peft_config["group_1"]
    assert (config.peft_type.value, config.r) == ("HRA", 2)
    layers = {name.split(".hra_u")[0].rsplit(".", 1)[1] for name, _ in model.named_parameters() if "hra_u" in name}
    assert layers == {"q_proj", "k_proj", "v_proj"}


def test_a_grouping(execute):
    model, train_data = _loaded(execute("A grouping"))
    sequences, _ = random_sequences()
    bought = np.array([len(items) - 2 for items in sequences.values()])  # one validates, one tests
    expected = np.searchsorted(np.quantile(bought, [1 / 3, 2 / 3]), bought)
    ids = [train_data.dataset.token2id("user_id", user) for user in sequences]
    assert model.user_groups[ids].tolist() == expected.tolist()


def test_a_loss(execute):
    names = execute("A loss")
    model, _ = _loaded(names)
    assert type(model.loss_module).__name__ == "HingeLoss"
    loss = names["HingeLoss"]()(torch.tensor([2.0, 0.5]), torch.tensor([0.0, 1.0]))
    assert loss.item() == pytest.approx((0 + 1.5) / 2)


def test_an_encoder(execute):
    model, _ = _loaded(execute("An encoder"))
    encoder, items = model.item_tower.encoder, torch.tensor([1, 2, 3])
    frozen = super(type(encoder), encoder).encode(items, 0)
    down, _, up = encoder.adapters[1]
    by_hand = frozen + up.bias + torch.relu(frozen @ down.weight.T + down.bias) @ up.weight.T
    torch.testing.assert_close(encoder.encode(items, 1), by_hand)
    assert not torch.allclose(encoder.encode(items, 0), by_hand)  # groups went their own ways
