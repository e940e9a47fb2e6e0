"""Items of after the training: what the model makes of them, and that all else stays as it was."""

import shutil

import numpy as np
import pytest
import torch

from recbole_perpeft.serving.bundle import write_bundle
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.utils.errors import ContentError, EncoderError, RequestError
from tests.day2 import write_today
from tests.matrix import quickly
from tests.training import COHERENCE

CASES = {
    "soft groups, content term": {},
    "compared without modules": {"without_modules": True},
    "side networks": {"peft_type": "IISAN", "peft_config": {}},
    "frozen, one group": {"peft_type": "NONE", "num_groups": 1},
    "without content term": {"content_term": False, "soft_groups": False},
    "a mask token": {"model": "PerPEFTBERT4Rec"},
    "group vectors": {"personalised_by": "group_vector"},
}


@pytest.fixture
def shop(tiny_root, tmp_path):
    """A folder with an ``.item`` file of twins of i3 and i8, and of an item that has another title."""
    place = tmp_path / "new"
    (place / "images").mkdir(parents=True)
    lines = (tiny_root / "tiny" / "tiny.item").read_text().splitlines()
    titles = {line.split("\t")[0]: line.split("\t")[1] for line in lines[1:]}
    new = {"twin3": ("i3", titles["i3"]), "twin8": ("i8", titles["i8"]), "other": ("i8", "wool tent lamp")}
    rows = "".join(f"{name}\t{title}\tred\n" for name, (_, title) in new.items())
    (place / "new.item").write_text(f"item_id:token\ttitle:token_seq\tcolour:token\n{rows}")
    for name, (like, _) in new.items():
        shutil.copy(tiny_root / "tiny" / "images" / f"{like}.png", place / "images" / f"{name}.png")
    return place / "new.item"


CELLS = [(source, case) for source in ("checkpoint", "bundle") for case in CASES]
QUICK = [("bundle", "soft groups, content term"), ("bundle", "side networks"), ("bundle", "a mask token"),
         ("bundle", "compared without modules"), ("checkpoint", "compared without modules"),
         ("checkpoint", "frozen, one group"), ("checkpoint", "group vectors")]  # fmt: skip


@pytest.mark.parametrize(("source", "case"), quickly(CELLS, QUICK))
def test_a_new_item_is_its_content_and_all_others_score_as_before(checkpoint, shop, tiny_root, tmp_path, case, source):
    trainer, (train_data, *_), file = checkpoint(**CASES[case])
    if source == "bundle":
        write_bundle(file, tmp_path / "bundle")
        settings = {"data_path": str(tiny_root)}  # where the encoder is
        recommender = Recommender.load(tmp_path / "bundle", settings)
    else:
        recommender = Recommender.load(file)
    users = recommender.users
    before, old_model = recommender.scores(users), recommender.model
    items = recommender.read_items(shop)
    assert (items.frozen is not None) == (case == "compared without modules")  # else nothing is read a second time
    assert recommender.take_items(items) == ["twin3", "twin8", "other"]
    model, tower = recommender.model, recommender.model.item_tower
    after = recommender.scores(users)
    n = old_model.n_items
    if case == "compared without modules":  # what tells groups apart goes by the modules all the same
        rows = train_data.purchases[:20]
        losses = model.losses_by_group(rows)
        assert (losses.amax(dim=1) > losses.amin(dim=1) + 0.01).any()
    assert torch.equal(after[:, :n], before)
    assert after.shape[1] == n + 3
    twins = {"twin3": "i3", "twin8": "i8"}
    number = {token: place for place, token in enumerate(recommender.catalogue.tokens)}
    ids = old_model.item_tower.id_embedding.weight
    for group in range(model.num_groups):
        with old_model.item_tower.catalogue(group):
            old = old_model.item_tower.weight
            if tower.content_term is not None:
                old_vectors = old_model.item_tower.content_term.table
        with tower.catalogue(group):
            for twin, item in twins.items():
                if case != "group vectors":  # which scale the sum of both parts
                    content = old[number[item]] - ids[number[item]]
                    assert torch.allclose(tower.weight[number[twin]], content, atol=1e-5)
                if tower.content_term is not None:
                    vector = tower.content_term.table[number[twin]]
                    assert torch.allclose(vector, old_vectors[number[item]], atol=1e-5)
            assert not torch.allclose(tower.weight[number["other"]], tower.weight[number["twin8"]], atol=1e-5)
    lists = recommender.recommend(users, k=3, allow=["twin3", "twin8", "other"], columns=["title", "colour"])
    assert set(lists.colour) == {"red"}
    shown = after[:, [number[name] for name in ("twin3", "twin8", "other")]].sort(dim=1, descending=True).values
    assert np.allclose(lists.score.to_numpy().reshape(-1, 3), shown.numpy(), atol=1e-5)
    assert len(recommender.recommend_new([["twin3", "i1"]], k=33 - 2)) == 31
    assert recommender.recommend(users[:1], k=1, where={"brand": "3"}, seen=True).item_id[0][-1] == "3"


def test_items_can_come_twice(checkpoint, shop):
    recommender = Recommender.load(checkpoint()[2])
    recommender.add_items(shop)
    text = shop.read_text()
    for name in ("twin3", "twin8", "other"):
        shutil.copy(shop.parent / "images" / f"{name}.png", shop.parent / "images" / f"{name}b.png")
        text = text.replace(f"{name}\t", f"{name}b\t")
    shop.write_text(text)
    first = recommender.scores(recommender.users)
    recommender.add_items(shop)
    second = recommender.scores(recommender.users)
    assert torch.equal(second[:, :34], first)
    assert torch.allclose(second[:, -3:], first[:, -3:], atol=1e-5)


def test_the_rule_of_the_groups_places_users_of_new_items(recorded, shop):
    run = recorded(**COHERENCE)
    recommender = Recommender.load(run.checkpoint(run.validated[-1]))
    before = recommender.recommend_new([["i1", "i2", "i3"]], group=True)
    recommender.add_items(shop)
    after = recommender.recommend_new([["i1", "i2", "i3"], ["twin3", "i2"]], group=True)
    assert after.group[0] == before.group[0]
    assert len(after) == 20


def test_todays_data_are_opened(checkpoint, tiny_root, tmp_path):
    _, _, file = checkpoint()
    today = write_today(tmp_path / "today", tiny_root)
    recommender = Recommender.load(file, {"data_path": str(today)}, new_data=True)
    assert {"n0", "n5"} < set(recommender.users)
    assert "j0" in recommender.catalogue
    lists = recommender.recommend(["n0", "u1"], k=5, group=True)
    assert len(lists) == 10
    assert set(lists.group) <= {0, 1, 2}


def test_what_takes_no_new_items(checkpoint, shop, tiny_root, tmp_path):
    with pytest.raises(RequestError, match="SASRec knows items by what it learnt of each"):
        Recommender.load(checkpoint("SASRec", epochs=1)[2]).add_items(shop)
    with pytest.raises(RequestError, match="PerPEFTLightGCN takes no new items here"):
        Recommender.load(checkpoint("PerPEFTLightGCN")[2]).add_items(shop)
    _, _, file = checkpoint()
    recommender = Recommender.load(file)
    with pytest.raises(RequestError, match="is in the catalogue already"):
        recommender.add_items(tiny_root / "tiny" / "tiny.item")
    (shop.parent / "images" / "twin8.png").unlink()
    with pytest.raises(ContentError, match="twin8"):
        recommender.add_items(shop)
    with pytest.raises(ContentError, match=r"nothing\.item"):
        recommender.add_items(shop.parent / "nothing.item")
    shop.write_text("item_id:token\ttitle:token_seq\n[PAD]\tred tent\n")
    with pytest.raises(RequestError, match=r"'\[PAD\]' is in the catalogue already"):
        recommender.add_items(shop)
    shop.write_text("item_id:token\ttitle:token_seq\n")
    with pytest.raises(RequestError, match="there are none"):
        recommender.add_items(shop)
    write_bundle(file, tmp_path / "bundle")
    with pytest.raises(RequestError, match="is a bundle, which brings its data"):
        Recommender.load(tmp_path / "bundle", new_data=True)


def test_a_bundle_says_what_it_needs_to_read_new_items(checkpoint, shop, tmp_path):
    write_bundle(checkpoint()[2], tmp_path / "bundle")
    recommender = Recommender.load(tmp_path / "bundle", {"data_path": str(tmp_path / "away")})
    with pytest.raises(EncoderError, match="clip"):
        recommender.add_items(shop)
