"""The command that exports a bundle, and the card that comes with it."""

import json

import pytest
from huggingface_hub import ModelCard

from recbole_perpeft.__main__ import main
from recbole_perpeft.serving.bundle import open_bundle
from recbole_perpeft.serving.bundle_card import card

FOUND = {"best_valid_result": {"ndcg@10": 0.5}, "test_result": {"ndcg@10": 0.25, "recall@10": 0.75}, "seconds": {}}


def test_export_writes_a_bundle_with_the_metrics_of_a_run(exported, tmp_path, tiny, capsys):
    _, file, _ = exported
    (tmp_path / "found.json").write_text(json.dumps(FOUND))
    command = ["export", file, "--out", str(tmp_path / "out"), "--metrics", str(tmp_path / "found.json")]
    assert main([str(word) for word in command]) == 0
    facts = json.loads((tmp_path / "out/bundle.json").read_text())
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(facts["files"]) == files - {"bundle.json", "README.md"}
    size = sum((tmp_path / "out" / name).stat().st_size for name in facts["files"])
    assert capsys.readouterr().out == f"Written: {tmp_path / 'out'}, {len(facts['files'])} files, {size:,} bytes\n"
    assert facts["metrics"] == {"validation": FOUND["best_valid_result"], "test": FOUND["test_result"]}
    assert facts["counts"] == {"users": 40, "items": 30, "purchases": open_bundle(tmp_path / "out")[2].inter_num + 120}


def test_what_cannot_be_exported_ends_with_one_line(exported, tmp_path, capsys):
    _, file, folder = exported
    (tmp_path / "empty.json").write_text("[]")
    for words, said in (
        ([file, "--out", folder, "--metrics", tmp_path / "empty.json"], "holds no metrics"),
        ([file, "--out", folder, "--metrics", tmp_path / "missing.json"], "missing.json cannot be read"),
        ([tmp_path / "missing.pth", "--out", folder], "missing.pth does not exist"),
        ([file, "--out", tmp_path], "is no bundle: it would be overwritten"),
        ([file, "--out", folder / "bundle.json" / "x"], "cannot be written"),
        ([file, "--out", folder, "--hidden_sise=3"], "Did you mean 'hidden_size'"),
    ):
        assert main(["export", *map(str, words)]) == 2
        assert said in capsys.readouterr().err
    open_bundle(folder)


def test_the_bundle_tells_nothing_of_this_machine(exported, checkpoint, tiny_root, tmp_path):
    _, former, _ = exported
    moved = {"warm_start": str(former), "encoder": str(tiny_root / "tiny" / "clip")}
    assert main(["export", checkpoint(**moved)[2], "--out", str(tmp_path / "out")]) == 0
    texts = [file.read_text() for file in (tmp_path / "out").rglob("*") if file.suffix in (".json", ".md", ".tsv")]
    assert len(texts) == 8
    assert not [text for text in texts for place in (tiny_root, former, tmp_path) if str(place) in text]
    assert open_bundle(tmp_path / "out")[0]["encoder"] == "clip"


def test_the_hub_reads_the_card(exported):
    *_, folder = exported
    facts = json.loads((folder / "bundle.json").read_text())
    found = ModelCard.load(folder / "README.md")
    assert found.data.library_name == "recbole_perpeft"
    assert "recommendation" in found.data.tags
    assert found.data.base_model is None  # a folder is no model of the hub
    assert "all their" in found.text
    assert f"| tiny | 40 | 30 | {facts['counts']['purchases']} |" in found.text
    assert "| ndcg@10 | 0.2500 |" in found.text
    facts["encoder"]["names"] = ["openai/clip-vit-base-patch32"]
    named = ModelCard(card(facts))
    assert named.data.base_model == ["openai/clip-vit-base-patch32"]
    assert named.data.base_model_relation == "adapter"


@pytest.mark.parametrize("model", ["SASRec"])
def test_the_card_of_a_model_without_content(checkpoint, tmp_path, model):
    assert main(["export", checkpoint(model, epochs=1)[2], "--out", str(tmp_path / "out")]) == 0
    found = ModelCard.load(tmp_path / "out" / "README.md")
    assert found.data.base_model is None
    assert "None were given." in found.text
    assert "adapters/" not in found.text
