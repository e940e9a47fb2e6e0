"""Files of bundles: what is not as it was written is refused, and a bundle is written whole or not at all."""

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

from recbole_perpeft.serving import bundle as bundle_module
from recbole_perpeft.serving import bundle_data, bundle_files
from recbole_perpeft.serving.bundle import open_bundle, write_bundle
from recbole_perpeft.serving.bundle_files import Bundle
from recbole_perpeft.serving.opening import open_trained
from recbole_perpeft.utils.errors import BundleError
from tests.serving.conftest import edit


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
