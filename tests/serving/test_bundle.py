"""Bundles: what is opened scores as what was exported."""

import gc
import json

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from safetensors.torch import load_file

from recbole_perpeft import quick_start
from recbole_perpeft.serving.bundle import open_bundle, write_bundle
from recbole_perpeft.serving.bundle_data import catalogue_in
from recbole_perpeft.serving.bundle_encoder import encoder_of, load_foundation_of
from recbole_perpeft.serving.bundle_files import Bundle
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.utils.errors import BundleError, EncoderError
from tests.matrix import quickly, slow
from tests.serving.conftest import edit
from tests.tiny_data import write_purchases
from tests.training import same

CASES = {
    "sequential": {},
    "k-means": {"grouping": "kmeans", "group_negatives": False},
    "by user": {"personalised_by": "user_vector"},
    "one group": {"num_groups": 1, "content_term": True},
    "IISAN": {"peft_type": "IISAN", "peft_config": None, "content_term": True},
    "frozen": {"peft_type": "NONE", "peft_config": None},
    "columns of items": {"model": "PerPEFTSASRecF", "selected_features": ["brand"]},
    "graph": {"model": "PerPEFTLightGCN", "similar_items": 3},
    "histories": {"model": "PerPEFTSimpleX"},
    "SASRec": {"model": "SASRec", "epochs": 1},
    "BPR": {"model": "BPR", "epochs": 1},
    "LightGCN": {"model": "LightGCN", "epochs": 1},
}
AWAY = {"data_path": "nowhere"}  # neither purchases nor pictures, and no encoder, which lies with them


@pytest.mark.parametrize("case", quickly([*CASES], ["by user", "IISAN", "graph", "histories", "LightGCN"]))
def test_what_is_opened_scores_as_the_checkpoint_without_data_and_encoder(checkpoint, tmp_path, case):
    *_, file = checkpoint(**CASES[case])
    write_bundle(file, tmp_path / "bundle")
    _, trainer, *loaders = quick_start.load(file)
    _, model, dataset = open_bundle(tmp_path / "bundle", AWAY)
    assert dataset is dataset.parts[0]
    for loader, part in zip(loaders, dataset.parts, strict=True):
        before, after = loader._dataset.inter_feat, part.inter_feat
        assert same(before.interaction, after.interaction)
        with torch.no_grad():
            expected = trainer.model.eval().full_sort_predict(before)
            assert torch.equal(model.full_sort_predict(after), expected)


def test_lists_are_those_of_the_checkpoint_with_all_that_is_known(exported, tiny):
    _, file, folder = exported
    of_checkpoint, of_bundle = Recommender.load(file), Recommender.load(folder, AWAY)
    assert of_bundle.model.is_soft
    assert of_bundle.model.item_tower.content_term.is_used
    users = of_checkpoint.users
    assert of_bundle.users == users
    asked = {"group": True, "columns": ["title"], "where": {"brand": ["1", "2", "3", "4", "5"]}, "k": 4}
    assert of_bundle.recommend(users, **asked).equals(of_checkpoint.recommend(users, **asked))
    new = [["i1", "i2", "i3"], ["i7"]]
    assert of_bundle.recommend_new(new, group=True).equals(of_checkpoint.recommend_new(new, group=True))


@pytest.mark.parametrize("groups", [3, 1])
def test_compared_without_modules_new_users_are_told_apart_by_the_modules_all_the_same(checkpoint, tmp_path, groups):
    _, loaders, file = checkpoint(without_modules=True, num_groups=groups)
    write_bundle(file, tmp_path / "bundle")
    of_checkpoint, of_bundle = Recommender.load(file), Recommender.load(tmp_path / "bundle", AWAY)
    term = of_bundle.model.item_tower.content_term
    assert term.is_used
    assert not term.by_modules
    rows = loaders[0].purchases
    losses = of_checkpoint.model.losses_by_group(rows)
    assert torch.equal(of_bundle.model.losses_by_group(rows), losses)
    assert groups == 1 or (losses.amax(dim=1) > losses.amin(dim=1) + 0.01).any()
    new = [["i1", "i2", "i3"], ["i7"], ["i4", "i9", "i2", "i6"]]
    of_groups = {"group": True} if groups > 1 else {}
    assert of_bundle.recommend_new(new, **of_groups).equals(of_checkpoint.recommend_new(new, **of_groups))


def test_users_are_known_as_they_were_in_the_test_from_a_bundle_too(exported):
    _, file, folder = exported
    of_checkpoint, of_bundle = (Recommender.load(place, before_test=True) for place in (file, folder))
    assert of_bundle.recommend(of_bundle.users, k=4).equals(of_checkpoint.recommend(of_checkpoint.users, k=4))


def test_lists_are_made_of_the_rows_that_are_asked_for(bundle):
    whole, lean = (open_bundle(bundle, AWAY, lists=lists)[2].parts for lists in (True, False))
    for part, other in zip(whole, lean, strict=True):
        assert "item_id_list" not in other.inter_feat
        some = torch.arange(len(part))[::3].flip(0)
        assert same(part.inter_feat[some].interaction, other.with_lists(other.inter_feat[some]).interaction)
        columns = (part.inter_feat[some][name] for name in ("user_id", "item_id", "item_id_list", "item_length"))
        for user, item, items, length in zip(*columns, strict=True):
            bought = part.sequences[int(user)].tolist()
            assert int(item) in bought
            assert items[:length].tolist() == bought[: bought.index(int(item))][-len(items) :]


def test_a_recommender_keeps_no_rows_of_the_data_but_one_for_each_user(bundle):
    before = [kept for kept in gc.get_objects() if isinstance(kept, Interaction)]  # of other tests in this process
    others = {id(kept) for kept in before}
    recommender = Recommender.load(bundle, AWAY)
    (purchases,) = np.load(bundle / "purchases/users.npy").shape
    assert purchases > 4 * len(recommender.users)
    gc.collect()
    kept = [one for one in gc.get_objects() if isinstance(one, Interaction) and id(one) not in others]
    longest = max(len(one) for one in kept)
    assert longest == len(recommender.users)


@torch.no_grad()
def test_items_that_no_training_has_seen_are_known(checkpoint, tmp_path):
    trainer, (*_, test_data), file = checkpoint(**CASES["by user"])
    trainer.model.item_tower.untrained = [2, 3]  # as after a warm start: not those that today's data would name
    trainer._write(0)
    write_bundle(file, tmp_path / "bundle")
    _, model, _ = open_bundle(tmp_path / "bundle", AWAY)
    assert model.item_tower.untrained == [2, 3]
    rows = test_data._dataset.inter_feat
    trainer.model.invalidate()
    assert torch.equal(model.full_sort_predict(rows), trainer.model.eval().full_sort_predict(rows))


def test_tables_are_what_the_evaluation_reads(exported):
    trainer, _, folder = exported
    tower = trainer.model.eval().item_tower
    for group in range(3):
        with tower.catalogue(group):
            read = {kind: folder / f"tables/{kind}_{group}.npy" for kind in ("group", "content")}
            table, content = (np.load(file, allow_pickle=False, mmap_mode="r") for file in read.values())
            assert np.array_equal(table, tower.weight.numpy())
            assert np.array_equal(content, tower.content_term.tables[group].numpy())


def test_what_was_trained_is_all_there_once_and_in_its_own_type(exported):
    trainer, _, folder = exported
    state, kept = trainer.model.state_dict(), load_file(folder / "model.safetensors")
    adapters = {name for name in state if name.startswith("item_tower.encoder.")}
    assert adapters
    assert same({name: value for name, value in state.items() if name not in adapters}, kept)
    assert all(value.dtype == state[name].dtype for name, value in kept.items())
    written = [load_file(file) for file in (folder / "adapters").rglob("adapter_model.safetensors")]
    assert sum(map(len, written)) == len(adapters)
    assert not [file for file in folder.rglob("*") if file.suffix in (".pth", ".pt", ".pkl", ".bin")]


def test_items_users_and_purchases_are_readable_without_this_package(bundle, tiny_root):
    purchases = [line.split("\t") for line in (tiny_root / "tiny/tiny.inter").read_text().splitlines()[1:]]
    users = json.loads((bundle / "users/ids.json").read_text())
    items = [line.split("\t")[0].strip('"') for line in (bundle / "items.tsv").read_text().splitlines()]
    read = {name: np.load(bundle / f"purchases/{name}.npy") for name in ("users", "items", "times")}
    found = [(users[u], items[i], t) for u, i, t in zip(read["users"], read["items"], read["times"], strict=True)]
    assert sorted(found) == sorted((user, item, float(time)) for user, item, time in purchases)
    assert all(np.diff(read["times"][read["users"] == user]).min() > 0 for user in range(1, len(users)))
    assert (
        np.load(bundle / "users/groups.npy").tolist() == load_file(bundle / "model.safetensors")["user_groups"].tolist()
    )


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_columns_of_purchases_times_and_repeats_come_back_exactly(prepare, tmp_path, model):
    rng, tags = np.random.default_rng(0), ("a", "a b", "a b c")
    drawn = zip(range(96), rng.integers(12, size=96), rng.integers(4, size=96), rng.choice(tags, 96), strict=True)
    rows = [f"u{n % 12}\ti{item}\t{1.7e9 + time + 0.25}\t{n % 5}\t{tag}" for n, item, time, tag in drawn]
    header = "user_id:token\titem_id:token\ttimestamp:float\trating:float\ttags:token_seq"
    write_purchases(tmp_path, "shop", rows, header)
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp", "rating", "tags"]}, "mask_history": False}
    split = {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO", "group_by": None}} if model == "BPR" else {}
    settings = {"dataset": "shop", "data_path": str(tmp_path), "rm_dup_inter": None}
    _, trainer, *loaders = prepare(model=model, **settings, **columns, **split)
    trainer._save_checkpoint(0, verbose=False)
    write_bundle(trainer.saved_model_file, tmp_path / "bundle")
    _, _, dataset = open_bundle(tmp_path / "bundle", AWAY)
    for loader, part in zip(loaders, dataset.parts, strict=True):
        assert same(loader._dataset.inter_feat.interaction, part.inter_feat.interaction)
    assert set(np.load(tmp_path / "bundle/purchases/times.npy") - 1.7e9) == {
        0.25,
        1.25,
        2.25,
        3.25,
    }  # no float32 has them


def test_columns_of_items_come_back_exactly(checkpoint, tiny_root, tmp_path):
    hard = {"i1": 'a "quoted" title', "i2": '"whole"', "i3": "NA", "i4": " blank ", "i5": "", "i6": "日本 \x85 x"}
    source = tiny_root / "tiny/tiny.item"
    rows = [line.split("\t") for line in source.read_text().splitlines()]
    text = source.read_text()
    source.write_text("\n".join("\t".join([row[0], hard.get(row[0], row[1]), row[2]]) for row in rows) + "\n")
    try:
        write_bundle(checkpoint("BPR", epochs=1)[2], tmp_path / "bundle")
    finally:
        source.write_text(text)
    catalogue = catalogue_in(Bundle.open(tmp_path / "bundle"))
    title = dict(zip(catalogue.tokens, catalogue.column("title"), strict=True))
    assert catalogue.columns == ("title", "brand")
    assert {item: title[item] for item in hard} == hard
    assert {row[0]: title[row[0]] for row in rows[1:] if row[0] not in hard and row[0] in title} == {
        row[0]: row[1] for row in rows[1:] if row[0] not in hard and row[0] in title
    }


# -- new items --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [slow("sequential"), "IISAN", slow("top layers"), "pair"])
@torch.no_grad()
def test_the_encoder_of_a_bundle_reads_items_as_the_trained_one(checkpoint, tiny_root, tmp_path, pair, case):
    trainer, _, file = checkpoint(**{**CASES, "top layers": {"peft_layers": 1}, "pair": pair}[case])
    write_bundle(file, tmp_path / "bundle")
    config, model, _ = open_bundle(tmp_path / "bundle", {"data_path": str(tiny_root)})
    assert config["precision"] == "fp32"
    with pytest.raises(EncoderError, match="opened without .*bundle_encoder"):
        model.item_tower.encoder.encode(torch.arange(1, 4), 0)
    foundation, trained = load_foundation_of(tmp_path / "bundle", config), trainer.model.eval().item_tower.encoder
    encoder, items = encoder_of(tmp_path / "bundle", config, foundation, trained.content), torch.arange(1, 9)
    for group in range(3):
        assert torch.equal(encoder.encode(items, group), trained.encode(items, group))


def test_another_encoder_is_refused_and_a_missing_one_is_named(bundle, tiny_root):
    config, *_ = open_bundle(bundle, {"data_path": str(tiny_root)})
    with pytest.raises(EncoderError, match="encoder.*nowhere"):
        load_foundation_of(bundle, open_bundle(bundle, {"encoder": "./nowhere"})[0])
    edit(bundle, lambda facts: facts["encoder"].update(hash="0"))
    with pytest.raises(BundleError, match="is not the clip that the bundle"):
        load_foundation_of(bundle, config)
