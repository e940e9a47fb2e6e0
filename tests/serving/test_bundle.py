"""Bundles: what is opened scores as what was exported, and what is not as it was written is refused."""

import gc
import json
import os
import pickle
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from safetensors.torch import load_file

from recbole_perpeft import quick_start
from recbole_perpeft.serving import bundle as bundle_module
from recbole_perpeft.serving import bundle_data, bundle_files
from recbole_perpeft.serving.bundle import open_bundle, write_bundle
from recbole_perpeft.serving.bundle_data import catalogue_in
from recbole_perpeft.serving.bundle_encoder import encoder_of, load_foundation_of
from recbole_perpeft.serving.bundle_files import Bundle
from recbole_perpeft.serving.opening import open_trained
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.utils.errors import BundleError, EncoderError
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


def edit(folder, change):
    """Write the manifest anew after ``change`` of it."""
    file = folder / "bundle.json"
    facts = json.loads(file.read_text())
    change(facts)
    file.write_text(json.dumps(facts))


def put(folder, name, data):
    """Another file in the place of one, of which the manifest tells the truth."""
    (folder / name).write_bytes(data)
    known = {"size": len(data), "sha256": bundle_files._sha256(folder / name)}
    edit(folder, lambda facts: facts["files"].update({name: known}))


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (Path(self.marker),)


# -- what is opened ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
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
    recommender = Recommender.load(bundle, AWAY)
    (purchases,) = np.load(bundle / "purchases/users.npy").shape
    assert purchases > 4 * len(recommender.users)
    gc.collect()
    longest = max(len(kept) for kept in gc.get_objects() if isinstance(kept, Interaction))
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


@pytest.mark.parametrize("case", ["sequential", "IISAN", "top layers", "pair"])
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


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_as_it_was_written_is_named(bundle):
    file, other = bundle / "model.safetensors", bundle / "purchases/items.npy"
    whole = file.read_bytes()
    for data, said in (
        (whole[:-1], "bytes and not the"),
        (whole + b"x", "bytes and not the"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "sha256 is another"),
    ):
        file.write_bytes(data)
        with pytest.raises(BundleError, match=f"model.safetensors.*{said}"):
            open_bundle(bundle)
    file.write_bytes(whole)
    open_bundle(bundle)
    other.unlink()
    with pytest.raises(BundleError, match="items.npy is missing. Get the bundle again"):
        open_bundle(bundle)


def test_other_formats_and_foreign_folders_are_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match="is no bundle: it has no bundle.json"):
        open_bundle(tmp_path)
    for change, said in (
        ({"kind": "other"}, "its kind is not"),
        ({"format": 99}, "of format 99, and this version of recbole_perpeft reads format 1"),
        ({"files": ["model.safetensors"]}, "lacks files"),
        ({"files": {"model.safetensors": "0"}}, "does not tell size and sha256"),
        ({"settings": {"model": "os"}}, "Unknown model"),
    ):
        before = (bundle / "bundle.json").read_text()
        edit(bundle, lambda facts, change=change: facts.update(change))
        with pytest.raises(ValueError, match=said):
            open_bundle(bundle)
        (bundle / "bundle.json").write_text(before)
    (bundle / "bundle.json").write_text(before[:-10])
    with pytest.raises(BundleError, match="bundle.json cannot be read"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["../outside.npy", "/etc/hostname", "a/../../b", "C:/b", "a\\b", ""])
def test_names_that_lead_out_of_the_bundle_are_refused(bundle, name):
    (bundle.parent / "outside.npy").write_bytes(b"")
    edit(bundle, lambda facts: facts["files"].update({name: {"size": 0, "sha256": ""}}))
    with pytest.raises(BundleError, match="no file inside the bundle"):
        open_bundle(bundle)


def test_code_in_the_place_of_numbers_is_refused_and_not_run(bundle, tmp_path):
    marker, objects = tmp_path / "was run", tmp_path / "objects.npy"
    code = pickle.dumps(Harmful(str(marker)))
    np.save(objects, np.array([Harmful(str(marker))], dtype=object), allow_pickle=True)
    torch.save({"a": Harmful(str(marker))}, tmp_path / "a.pth")
    kept = {
        name: (bundle / name).read_bytes()
        for name in ("model.safetensors", "purchases/items.npy", "tables/group_0.npy")
    }
    for name, data in (
        ("model.safetensors", code),
        ("model.safetensors", (tmp_path / "a.pth").read_bytes()),
        ("purchases/items.npy", objects.read_bytes()),
        ("purchases/items.npy", code),
        ("tables/group_0.npy", objects.read_bytes()),
    ):
        put(bundle, name, data)
        with pytest.raises(BundleError, match=f"{name}.*nothing of it was run"):
            open_bundle(bundle)
        assert not marker.exists()
        put(bundle, name, kept[name])
    pickle.loads(code)  # it does what it says
    assert marker.exists()


def test_a_manifest_and_files_that_do_not_go_together_are_refused(bundle):
    users, table = np.load(bundle / "purchases/users.npy"), np.load(bundle / "tables/group_1.npy")
    whole = {name: (bundle / name).read_bytes() for name in Bundle.open(bundle).facts["files"]}

    def array(value):
        np.save(bundle.parent / "x.npy", value)
        return (bundle.parent / "x.npy").read_bytes()

    for name, data, said in (
        ("purchases/users.npy", array(users + 1), "users.npy has numbers outside of 1 to 40"),
        ("purchases/users.npy", array(users[:-1]), "do not go together"),
        ("purchases/test.npy", array(np.array([-1])), "test.npy has numbers outside"),
        ("users/ids.json", b"{}", "do not go together|numbers outside"),
        ("fields.json", b"[]", "do not go together"),
        ("tables/group_1.npy", array(table[:, :-1]), "lacks a table of width 16 for group 1"),
        (
            "model.safetensors",
            (bundle / "columns.safetensors").read_bytes(),
            "model.safetensors of .* do not make a PerPEFTSASRec",
        ),
    ):
        put(bundle, name, data)
        with pytest.raises(BundleError, match=said):
            open_bundle(bundle)
        put(bundle, name, whole[name])
    edit(bundle, lambda facts: facts.pop("encoder"))
    with pytest.raises(BundleError, match="PerPEFTSASRec has no encoder"):
        open_bundle(bundle)


def test_another_build_is_named_and_settings_that_it_did_not_know_are_as_they_were(bundle, caplog):
    def older(facts):
        facts["sources"] = "0"
        del facts["settings"]["grow_history"]

    edit(bundle, older)
    assert open_bundle(bundle)[0]["grow_history"] is False
    assert "another build of recbole_perpeft" in caplog.text


def test_settings_of_another_model_are_refused(bundle):
    assert open_bundle(bundle, {"topk": [10, 3]})[0]["topk"] == [10, 3]
    with pytest.raises(BundleError, match="leave hidden_size out"):
        open_bundle(bundle, {"hidden_size": 8})


# -- writing ----------------------------------------------------------------------------------------------------------


def killed_while_writing(folder, how):
    """A process that dies in the middle of writing a bundle; gives its status."""
    child = os.fork()
    if not child:
        with bundle_files.new_bundle(folder) as place:
            bundle_files.write_array(place / "tables/group_0.npy", np.zeros(3))
            how()
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin in the middle")
def test_a_process_killed_while_writing_leaves_the_old_bundle_whole(bundle):
    before = {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()}
    status = killed_while_writing(bundle, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()} == before
    open_bundle(bundle)


@pytest.mark.skipif(sys.platform != "linux", reason="folders change places in one step on Linux")
def test_a_reader_finds_a_bundle_at_every_moment_of_a_replacement(bundle):
    seen, done = set(), threading.Event()

    def look():
        while not done.is_set():
            seen.add((bundle / "bundle.json").is_file())

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for _ in range(200):
            with bundle_files.new_bundle(bundle) as place:
                bundle_files.seal(place, {})
    finally:
        done.set()
        reader.join()
    assert seen == {True}
    assert not list(bundle.parent.glob(".bundle*"))


def test_what_would_be_of_two_bundles_is_refused(exported, tiny_root, monkeypatch):
    trainer, _, bundle = exported
    read, message = bundle_data.read_data, "was replaced by another bundle since it was opened: open it again"

    def replaced_meanwhile(*arguments):
        parts = read(*arguments)
        edit(bundle, lambda facts: facts.update(metrics={"test": {"ndcg@10": 0.5}}))
        return parts

    with monkeypatch.context() as at_that_moment:
        at_that_moment.setattr(bundle_module, "read_data", replaced_meanwhile)
        with pytest.raises(BundleError, match=message):
            open_bundle(bundle)
    source = open_trained(bundle, {"data_path": str(tiny_root)}, new_data=False).encoder
    content = trainer.model.item_tower.encoder.content
    assert source.adapted(source.foundation(), content).num_groups == 3
    edit(bundle, lambda facts: facts.update(metrics={}))
    with pytest.raises(BundleError, match=message):
        source.adapted(source.foundation(), content)


def test_where_folders_cannot_change_places_the_new_bundle_comes_in_and_nothing_is_left(bundle, monkeypatch):
    monkeypatch.setattr(bundle_files, "_exchange", lambda *folders: False)  # as on other systems
    with bundle_files.new_bundle(bundle) as place:
        bundle_files.seal(place, {"model": "new"})
    assert json.loads((bundle / "bundle.json").read_text())["model"] == "new"
    assert not list(bundle.parent.glob(".bundle*"))


def test_a_full_disk_leaves_the_old_bundle_whole_and_nothing_beside_it(bundle, checkpoint):
    resource = pytest.importorskip("resource")
    file, before = checkpoint(hidden_size=32)[2], Bundle.open(bundle).facts
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, most))  # no file may be larger, as where there is no more room
    try:
        with pytest.raises(BundleError, match="cannot be written.*What was there before is whole. Free the disk"):
            write_bundle(file, bundle)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert Bundle.open(bundle).facts == before
    assert not list(bundle.parent.glob(".bundle*"))


def test_a_bundle_is_replaced_and_nothing_else_is(bundle, checkpoint, tmp_path):
    file = checkpoint(num_groups=1)[2]
    write_bundle(file, bundle)
    assert open_bundle(bundle)[1].num_groups == 1
    assert not (bundle / "tables/group_1.npy").exists()
    (tmp_path / "mine").mkdir()
    write_bundle(file, tmp_path / "mine")  # an empty folder is room
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("x")
    for taken in (tmp_path / "papers", tmp_path / "papers" / "thesis.tex"):
        with pytest.raises(BundleError, match="is there and is no bundle"):
            write_bundle(file, taken)
    assert (tmp_path / "papers" / "thesis.tex").read_text() == "x"


def test_a_snapshot_of_the_hub_is_opened_whose_files_are_links(bundle, tmp_path):
    for file in (file for file in bundle.rglob("*") if file.is_file()):
        link = tmp_path / "snapshot" / file.relative_to(bundle)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    open_bundle(tmp_path / "snapshot")


def test_a_model_that_a_bundle_cannot_hold_is_refused(prepare, tmp_path):
    _, trainer, train_data, valid_data, _ = prepare(model="ContentNeighbours")
    trainer.fit(train_data, valid_data, verbose=False)
    with pytest.raises(BundleError, match="ContentNeighbours has no bundle"):
        write_bundle(trainer.saved_model_file, tmp_path / "bundle")
