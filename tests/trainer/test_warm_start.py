"""Yesterday's checkpoint on today's data: scored as it is, and trained on from there."""

import shutil
from pathlib import Path

import pytest
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.model.score_parts import Part
from recbole_perpeft.quick_start import load, run
from recbole_perpeft.serving.bundle import write_bundle
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer.warm_start import start_from, starting_config, take_start
from recbole_perpeft.utils.errors import (
    CheckpointError,
    ContentError,
    DataError,
    EncoderError,
    MisfitError,
    SettingError,
)
from tests.day2 import NEW_ITEMS, ids_of, scores_of, write_today
from tests.matrix import slow
from tests.tiny_data import write_atomic
from tests.training import mean_gain, same, scripted

GROUPED = {"grouping": "kmeans", "group_negatives": False, "num_groups": 2, "epochs": 3, "global_epochs": 1}
GLOBAL = {"num_groups": 1, "epochs": 2}


@pytest.fixture(scope="session")
def today(tmp_path_factory, tiny_root):
    return write_today(tmp_path_factory.mktemp("today"), tiny_root)


@pytest.fixture(scope="session")
def same_catalogue(tmp_path_factory, tiny_root):
    return write_today(tmp_path_factory.mktemp("users"), tiny_root, change_catalogue=False)


@pytest.fixture
def then(recorded):
    """``then(**settings)``: the trainer of a run on yesterday's data, and a copy of its checkpoint."""

    def make(**settings):
        found = recorded(**settings)
        return found.trainer, found.checkpoint(found.validated[-1])

    return make


def settings_of_today(folder, **settings):
    return {"data_path": str(folder), "encoder": str(folder / "tiny" / "clip"), **settings}


# soft groups come after the last validation, whose checkpoint is read here; the purchase term counts what others bought
@pytest.mark.parametrize("settings", [{**GROUPED, "soft_groups": False}, {**GLOBAL, "peft_type": None}])
def test_users_without_new_purchases_score_as_before_to_all_digits(prepare, then, same_catalogue, settings):
    settings = {**settings, "purchase_term": False}
    trainer, file = then(**settings)
    *_, before = prepare(**settings)
    _, now, _, _, after = load(file, settings_of_today(same_catalogue), new_data=True)
    for user in ("u0", "u3", "u17", "u39"):
        assert scores_of(now, after, user) == scores_of(trainer, before, user)
    assert len(scores_of(now, after, "n0")) == 31


def test_of_a_catalogue_that_has_grown_only_new_items_are_encoded(then, today):
    _, file = then(**GLOBAL, peft_type=None)
    _, before, _, _, test = load(file, {"content_cache": "cache"})
    before.evaluate(test)
    _, now, _, _, test = load(file, settings_of_today(today, content_cache="cache"), new_data=True)
    now.evaluate(test)
    features = now.model.item_tower.encoder.item_features
    assert (features.items_encoded, features.items_prepared) == (0, 1 + len(NEW_ITEMS))  # padding tells the shape


def test_another_catalogue_is_scored_by_what_was_trained_and_new_items_by_content(then, today, caplog):
    caplog.set_level("INFO")
    trainer, file = then(**GROUPED)
    _, now, train, _, test = load(file, settings_of_today(today), new_data=True)
    said = caplog.text
    assert "42 users, 6 of them new and 4 of then gone; 31 items, 2 of them new and 1 of then gone." in said
    assert "6 users who have no group yet got theirs by the rule of the groups." in said
    tower, dataset = now.model.item_tower.eval(), test._dataset
    here, there = ids_of(dataset, "item_id"), trainer.checkpoint.tokens["items"]
    group = 1
    with now.model.item_tower.catalogue(group), torch.no_grad():
        content = tower._project(tower.encoder.encode(torch.tensor([here[item] for item in NEW_ITEMS]), group), group)
        assert torch.allclose(tower.weight[[here[item] for item in NEW_ITEMS]], content, atol=1e-6)
    with trainer.model.item_tower.eval().catalogue(group), now.model.item_tower.catalogue(group):
        for item, token in enumerate(there):
            if token in here and token != "[PAD]":
                rows = tower.weight[here[token]], trainer.model.item_tower.weight[item]
                assert torch.allclose(*rows, atol=1e-6)
    assert {dataset.field2id_token["user_id"][user] for user in train.histories} >= {"n0", "u0"}
    assert now.model.user_groups[1:].min() >= 0
    assert now.model.user_groups[0] == -1
    assert all(0 <= value <= 1 for value in now.evaluate(test).values())


@pytest.mark.parametrize("settings", [GROUPED, slow(GLOBAL)])
def test_training_goes_on_from_the_best_state_on_todays_data(then, today, capfd, settings):
    trainer, file = then(**settings)
    _, start, _, valid, _ = load(file, settings_of_today(today), new_data=True)
    first = start.evaluate(valid)["ndcg@10"]
    found = run(config_dict={"warm_start": file, **settings_of_today(today), "epochs": 2, "learning_rate": 0.03})
    said = capfd.readouterr().err
    assert "learning_rate: 0.01 in the checkpoint, 0.03 now" in said
    assert f"The start has ndcg@10 {first:.4f} in validation" in said
    assert found["best_valid_score"] >= first
    state = checkpoint_file.read(found["checkpoint"])
    assert state["epoch"] == 1
    assert state["settings"]["warm_start"] == file
    if settings is GLOBAL:
        assert (state["stage"], state["settings"]["global_epochs"]) == ("global", 1)
        return
    assert (state["stage"], state["settings"]["global_epochs"], found["best_stage"]) == ("personalised", 0, 3)
    of_then = dict(zip(trainer.checkpoint.tokens["users"], trainer.model.user_groups.tolist(), strict=True))
    of_now = dict(zip(state["ids"]["users"], state["state_dict"]["user_groups"].tolist(), strict=True))
    both = of_then.keys() & of_now.keys()
    assert {user: of_now[user] for user in both} == {user: of_then[user] for user in both}
    # what it wrote opens with today's data, and goes on
    longer = run(config_dict={"resume": found["checkpoint"], "epochs": 3})
    assert checkpoint_file.read(longer["checkpoint"])["epoch"] == 2


def test_no_epochs_only_score(then, today, capfd):
    _, file = then(**GROUPED)
    _, start, _, valid, test = load(file, settings_of_today(today), new_data=True)
    found = run(config_dict={"warm_start": file, **settings_of_today(today), "epochs": 0})
    assert (found["best_epoch"], found["best_valid_result"]) == (-1, dict(start.evaluate(valid)))
    assert found["test_result"] == dict(start.evaluate(test))
    assert "the start (warm_start), of stage 3, NDCG@10" in capfd.readouterr().err
    assert checkpoint_file.read(found["checkpoint"])["ids"]["users"] == start.checkpoint.tokens["users"]
    _, again, *_, test = load(found["checkpoint"], new_data=True)
    assert dict(again.evaluate(test, load_best_model=False)) == found["test_result"]


def test_a_bundle_of_what_was_only_scored_opens(then, today):
    _, file = then(**GROUPED)
    written = run(config_dict={"warm_start": file, **settings_of_today(today), "epochs": 0})["checkpoint"]
    write_bundle(written, "bundle")
    expected, found = (Recommender.load(place).recommend(["u0", "n0"], k=5) for place in (written, "bundle"))
    assert found.equals(expected)


@pytest.mark.parametrize(("setting", "part"), [("purchase_term", Part.PURCHASES), ("content_term", Part.CONTENT)])
def test_a_term_that_is_new_gets_its_weight_in_validation_and_one_that_is_gone_is_left_out(then, today, setting, part):
    _, file = then(**GROUPED, l2_emb=0.1, seed=1, **{setting: False})
    given = settings_of_today(today, **{setting: True})
    _, trainer, _, valid, _ = load(file, given, new_data=True)
    net, found = trainer.model, mean_gain(trainer, valid)
    assert net.score_terms[part].weight > 0
    for term in net.score_terms.values():
        term.weight.zero_()
    assert found > mean_gain(trainer, valid)

    written = run(config_dict={"warm_start": file, **given, "epochs": 0})["checkpoint"]
    _, without, *_, test = load(written, {setting: False}, new_data=True)
    _, having, *_ = load(written)
    assert without.model.score_terms[part] is None
    having.model.score_terms[part].weight.zero_()
    for user in ("u0", "u17", "n0"):
        assert scores_of(without, test, user) == scores_of(having, test, user)


def test_the_start_is_kept_where_no_epoch_beats_it(then, today):
    _, file = then(**GROUPED)
    given = {"warm_start": file, **settings_of_today(today), "epochs": 2}
    _, trainer, train, valid, _ = quick_start.prepare(starting_config(file, given))
    start_from(trainer, file, train, valid)
    take_start(trainer, valid, saved=True)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    scripted(trainer, [-1.0, -1.0])
    score, _ = trainer.fit(train, valid, verbose=False)
    assert (trainer.best_epoch, trainer.epoch, score) == (-1, 1, trainer.best_valid_score)
    assert score > 0
    assert same(before, trainer.model.state_dict())


def test_a_start_of_before_items_were_compared_without_modules_keeps_its_weights(then, today):
    _, file = then(**GLOBAL)
    state = checkpoint_file.read(file)
    weights = {key: value for key, value in state["state_dict"].items() if key.endswith("_term.weight")}
    for value in weights.values():
        value.fill_(0.123)
    del state["state_dict"]["item_tower.content_term.by_modules"]
    checkpoint_file.write(file, state)
    _, trainer, train, valid, _ = quick_start.prepare(
        starting_config(file, {"warm_start": file, **settings_of_today(today)})
    )
    start_from(trainer, file, train, valid)
    assert len(weights) == 2
    assert all(torch.equal(trainer.model.state_dict()[key], value) for key, value in weights.items())
    assert trainer.model.item_tower.content_term.by_modules == 1


def test_items_that_only_the_start_was_trained_on_keep_their_id_part(then, tmp_path, tiny_root):
    trainer, file = then(**GLOBAL)
    sequences = {
        f"u{user}": [f"i{(user + step) % 10}" for step in range(5)] for user in range(12)
    }  # nobody buys i10 and those after it but as a last purchase
    sequences |= {f"v{user}": ["i0", "i1", "i2", f"i{10 + user}"] for user in range(5)}
    root = tmp_path / "few"
    place = write_atomic(root, "tiny", sequences, [f"i{number}" for number in range(30)])
    shutil.copytree(tiny_root / "tiny" / "clip", place / "clip")
    result = run(config_dict={"warm_start": file, **settings_of_today(root), "epochs": 1})
    _, again, *_, test = load(result["checkpoint"])
    assert dict(again.evaluate(test)) == result["test_result"]
    items, untrained = ids_of(test._dataset, "item_id"), trainer.model.item_tower.untrained
    never = {trainer.checkpoint.tokens["items"][item] for item in untrained} & items.keys()
    assert again.model.item_tower.untrained == sorted(items[token] for token in never - {f"i{n}" for n in range(10)})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"resume": "b.pth"}, SettingError, "resume: b.pth and warm_start: .* exclude each other"),
        ({"model": "PerPEFTGRU4Rec"}, MisfitError, "a checkpoint of PerPEFTSASRec, from which PerPEFTGRU4Rec cannot"),
        ({"model": "SASRec"}, MisfitError, "a checkpoint of PerPEFTSASRec, from which SASRec cannot start"),
        ({"hidden_size": 32}, MisfitError, r"has the shape .* Not as in the checkpoint: hidden_size: 16 in the .* 32"),
        ({"global_epochs": 1}, SettingError, "global_epochs is not possible with .*, whose users are grouped"),
        ({"warm_start": "none.pth"}, CheckpointError, "Checkpoint none.pth does not exist"),
        ({"data_path": "nowhere"}, DataError, "Data set folder nowhere/tiny does not exist.* set data_path"),
        ({"data_path": "empty"}, DataError, "empty/tiny/tiny.inter does not exist: a data set needs its purchases"),
        ({"encoder": "nowhere"}, EncoderError, "encoder: 'nowhere' is no folder here"),
    ],
)
def test_a_start_that_cannot_be_is_refused(then, today, given, error, message):
    _, file = then(**GROUPED)
    Path("empty/tiny").mkdir(parents=True)
    with pytest.raises(error, match=message):
        run(config_dict={"warm_start": file, **settings_of_today(today), **given})


def test_files_that_no_training_can_start_from_are_refused(tiny, then, today):
    _, file = then(**GROUPED)
    whole = Path(file).read_bytes()
    Path("cut.pth").write_bytes(whole[: len(whole) // 2])
    Path("text.pth").write_text("hello")
    state = checkpoint_file.read(file)
    checkpoint_file.write("older.pth", {key: value for key, value in state.items() if key != "ids"})
    others = {**state["ids"], "items": ["[PAD]", *(f"x{n}" for n in range(30))]}
    checkpoint_file.write("other.pth", {**state, "ids": others})
    settings = {**state["settings"], "model": "PerPEFTSASRecF", "selected_features": ["brand"]}
    checkpoint_file.write("features.pth", {**state, "settings": settings})
    nameless = {
        name: run(config_dict=tiny(model=name, epochs=1).settings())["checkpoint"]
        for name in ("SASRec", "ContentNeighbours")
    }
    for name, message in (
        ("cut.pth", "cut.pth is no checkpoint of a PerPEFT model, or is damaged"),
        ("text.pth", "text.pth is no checkpoint of a PerPEFT model, or is damaged"),
        ("older.pth", "older.pth does not tell its users and items, for an older build wrote it"),
        ("other.pth", "other.pth does not fit this run. None of the 31 items of today"),
        ("features.pth", r"PerPEFTSASRecF reads item features \(selected_features: \['brand'\]\)"),
        *((file, f"is a checkpoint of {model}, which does not tell its users") for model, file in nameless.items()),
    ):
        with pytest.raises(CheckpointError, match=message):
            load(name, settings_of_today(today), new_data=True)
        with pytest.raises(CheckpointError, match=message):
            run(config_dict={"warm_start": name, **settings_of_today(today)})
    _, again, _, _, test = load("older.pth")  # with the data of then
    assert again.evaluate(test)


def test_users_who_are_all_new_are_scored(then, tmp_path, tiny_root):
    _, file = then(**GROUPED)
    text = (tiny_root / "tiny" / "tiny.inter").read_text()
    place = shutil.copytree(tiny_root / "tiny", tmp_path / "others" / "tiny")
    (place / "tiny.inter").write_text(text.replace("\nu", "\nw"))
    _, now, *_, test = load(file, settings_of_today(place.parent), new_data=True)
    assert now.model.user_groups[1:].min() >= 0
    assert now.evaluate(test)


def test_a_checkpoint_of_folders_that_moved_says_which_setting_to_give(then, tiny_root, tmp_path):
    _, file = then(**GLOBAL)
    state = checkpoint_file.read(file)
    state["settings"] |= {"data_path": str(tmp_path / "gone"), "encoder": str(tmp_path / "gone")}
    checkpoint_file.write("moved.pth", state)
    with pytest.raises(DataError, match="Data set folder .*gone/tiny does not exist.* set data_path"):
        load("moved.pth")
    with pytest.raises(EncoderError, match="encoder: .*gone"):
        load("moved.pth", {"data_path": str(tiny_root)})
    with pytest.raises(ContentError, match="set `content_cache`"):
        load("moved.pth", settings_of_today(tiny_root, content_cache="/proc/cache"))
