"""Features from files in place of a foundation model: whose row is whose, and who else meets them."""

import json

import numpy as np
import pytest
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.encoder.given_features import given_encoder
from recbole_perpeft.experiments.inputs import Inputs
from recbole_perpeft.model.tower_factory import foundation_of
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.utils.errors import EncoderError
from tests.tiny_data import random_sequences, write_atomic
from tests.tiny_runs import tiny_config

ITEMS = ["b", "c", "a"]


@pytest.fixture
def shop(tmp_path):
    """Three items in the order of ITEMS, with features of both modalities."""
    (tmp_path / "shop.item").write_text("item_id:token\n" + "".join(f"{item}\n" for item in ITEMS))
    rng = np.random.default_rng(0)
    features = {"image": rng.normal(size=(3, 4)), "text": rng.normal(size=(3, 2)).astype(np.float16)}
    for modality, array in features.items():
        np.save(tmp_path / f"{modality}.npy", array)
    return tmp_path, features


def encoder_of(folder, tokens=("[PAD]", "a", "b"), modalities=("image", "text"), **files):
    named = {modality: f"{modality}.npy" for modality in modalities} | files
    return given_encoder(named, modalities, tokens, folder / "shop.item", "item_id", 2)


def test_each_item_has_the_row_of_its_place_in_the_item_file(shop):
    folder, features = shop
    encoder = encoder_of(folder)
    rows = [ITEMS.index("a"), ITEMS.index("b")]
    parts = [array[rows].astype(np.float32) for array in features.values()]
    by_hand = np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=1)
    for group in (0, 1):
        np.testing.assert_allclose(encoder.encode(torch.tensor([1, 2]), group), by_hand, rtol=1e-5)
    assert encoder.encode(torch.tensor([0]), 0).eq(0).all()
    assert encoder.fixed_features().shape == (3, 6)
    assert encoder.foundation.widths == {"image": 4, "text": 2}
    assert encoder_of(folder, modalities=("text",)).feature_dim == 2


def test_other_features_are_another_content(shop):
    folder, features = shop
    before = encoder_of(folder).content.hash
    assert encoder_of(folder).content.hash == before
    np.save(folder / "image.npy", features["image"] + 1)
    assert encoder_of(folder).content.hash != before


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4)), "has 2 rows, and .* 3 items"),
        (np.zeros(3), r"has shape \(3,\)"),
        (np.full((3, 4), np.nan), "holds values that are no numbers"),
        (np.array([["x"] * 4] * 3), r"needed is \[items, d\]"),
        (np.array([[{}] * 4] * 3), "cannot be read: "),
    ],
)
def test_files_that_cannot_serve_are_named(shop, array, message):
    folder, _ = shop
    np.save(folder / "image.npy", array)
    with pytest.raises(EncoderError, match=rf"item_features: .*image\.npy.*{message}"):
        encoder_of(folder)


def test_items_and_files_that_are_not_there_are_named(shop):
    folder, _ = shop
    with pytest.raises(EncoderError, match="1 of 2 items have no row in .*shop.item, such as 'z'"):
        encoder_of(folder, tokens=("[PAD]", "a", "z"))
    with pytest.raises(EncoderError, match=r"nowhere\.npy cannot be read"):
        encoder_of(folder, image="nowhere.npy")


GIVEN = {"item_features": {"image": "image.npy", "text": "text.npy"}, "peft_type": "NONE", "peft_config": None}


@pytest.fixture
def tiny_given(tmp_path, monkeypatch):
    """``tiny_given(model, **settings)``: a run's config on a tiny data set that has features."""
    sequences, items = random_sequences()
    place = write_atomic(tmp_path / "data", "tiny", sequences, items)
    rng = np.random.default_rng(1)
    for modality, width in (("image", 6), ("text", 4)):
        np.save(place / f"{modality}.npy", rng.normal(size=(len(items), width)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return lambda model, **settings: tiny_config(tmp_path / "data", model, **{**GIVEN, **settings})


def test_a_bundle_of_it_scores_as_the_checkpoint_does_and_reads_no_new_items(tiny_given, tmp_path):
    from recbole_perpeft.serving.bundle import write_bundle

    config = tiny_given("PerPEFTSASRec", epochs=2, global_epochs=1)
    result = quick_start.run(config.model_class, "tiny", config_dict=config.external_config_dict)
    write_bundle(result["checkpoint"], tmp_path / "bundle")
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["encoder"]["name"] == "image.npy + text.npy"
    of_file, of_bundle = (Recommender.load(place) for place in (result["checkpoint"], tmp_path / "bundle"))
    lists = [one.recommend(["u1", "u2"], k=5) for one in (of_file, of_bundle)]
    assert lists[0]["item_id"].tolist() == lists[1]["item_id"].tolist()
    with pytest.raises(EncoderError, match="without the model that made them no other item can be read"):
        foundation_of(config)


def test_content_neighbours_read_them(tiny_given):
    settings = {"num_groups": None, "projector_size": None, "peft_type": None}
    config = tiny_given("ContentNeighbours", **{key: value for key, value in settings.items() if value})
    _, trainer, *_ = quick_start.prepare(config)
    assert {name: tuple(part.shape) for name, part in trainer.model._features.items()} == {
        "image": (31, 6), "text": (31, 4),
    }  # fmt: skip


def test_a_finished_run_knows_the_features_that_it_read(tiny_given, tmp_path):
    settings = tiny_given("PerPEFTSASRec").external_config_dict
    before = Inputs().of("PerPEFTSASRec", "tiny", settings)
    assert "item_features" in before
    assert "encoder" not in before
    np.save(tmp_path / "data" / "tiny" / "text.npy", np.zeros((30, 4)))
    after = Inputs().of("PerPEFTSASRec", "tiny", settings)
    assert {name for name in before if before[name] != after[name]} == {"item_features"}
