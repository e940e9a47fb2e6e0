"""MMRec's layout: its features serve as the items' content, its split as a split of one's own."""

import numpy as np
import pytest
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.__main__ import main
from recbole_perpeft.config import Config
from recbole_perpeft.utils.errors import DataError, PerPEFTError
from tests.tiny_runs import TINY

N_ITEMS = 12


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "baby"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["userID\titemID\trating\ttimestamp\tx_label"]
    for user in range(20):
        for place, item in enumerate(rng.choice(N_ITEMS - 1, 6, replace=False)):  # the last item is never bought
            lines.append(f"{user}\t{item}\t5.0\t{1000 + place}\t{max(0, place - 3)}")
    (folder / "baby.inter").write_text("\n".join(lines) + "\n")
    np.save(folder / "image_feat.npy", rng.normal(size=(N_ITEMS, 6)).astype(np.float32))
    np.save(folder / "text_feat.npy", rng.normal(size=(N_ITEMS, 4)))
    return folder


SMALL = {key: TINY[key] for key in ("show_progress", "use_gpu", "precision", "topk", "valid_metric", "learning_rate")}


def trained(written, tmp_path, monkeypatch, model, **settings):
    """A model of two epochs, with its trainer and data."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    small = {**SMALL, "epochs": 2, "num_groups": 2, "grouping": "random", "averaging_epochs": None, **settings}
    config = Config(model, None, [str(written.folder / f"{written.name}.yaml")], small)
    _, trainer, train_data, valid_data, test_data = quick_start.prepare(config)
    trainer.fit(train_data, valid_data, verbose=False, show_progress=False)
    return trainer, train_data, valid_data, test_data


def test_perpeft_trains_on_the_features_as_they_are(prepare, source, tmp_path, monkeypatch):
    written = prepare("baby", "mmrec", source, "baby")
    assert written.settings["item_features"] == {"image": "image_feat.npy", "text": "text_feat.npy"}
    trainer, train_data, _, _ = trained(written, tmp_path, monkeypatch, "PerPEFTSASRec", hidden_size=16, n_heads=2)
    dataset, encoder = train_data._dataset, trainer.model.item_tower.encoder
    tokens = dataset.field2id_token["item_id"][1:].astype(int)
    image, text = (np.load(source / f"{kind}_feat.npy")[tokens] for kind in ("image", "text"))
    by_hand = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (image, text)]
    found = encoder.encode(torch.arange(1, dataset.item_num), 1)
    np.testing.assert_allclose(found.numpy(), np.concatenate(by_hand, axis=1), rtol=1e-5)
    assert not encoder.peft_parameters()


def test_mmrecs_split_is_kept(prepare, source, tmp_path, monkeypatch):
    written = prepare("baby", "mmrec", source, "baby", "--keep_split")
    parts = {part: written.purchases(part) for part in ("train", "valid", "test")}
    rows = [line.split("\t") for line in (source / "baby.inter").read_text().splitlines()[1:]]
    for number, bought in enumerate(parts.values()):
        assert [row[:2] for row in bought] == [(u, i) for u, i, _, _, label in rows if label == str(number)]
    _, *data = trained(written, tmp_path, monkeypatch, None)
    assert [part._dataset.inter_num for part in data] == [80, 20, 20]


def test_methods_that_adapt_a_model_are_refused(prepare, source):
    written = prepare("baby", "mmrec", source, "baby")
    file = str(written.folder / "baby.yaml")
    with pytest.raises(PerPEFTError, match="peft_type: LORA is not possible with item_features: there is no model"):
        Config("PerPEFTSASRec", None, [file], {"peft_type": "LORA"})
    with pytest.raises(PerPEFTError, match=r"has no file for modalities: \['image', 'text'\]. Add that of text"):
        Config("PerPEFTSASRec", None, [file], {"item_features": {"image": "image_feat.npy"}})


def test_features_of_another_number_of_items_are_refused(prepare, source, tmp_path, monkeypatch):
    written = prepare("baby", "mmrec", source, "baby")
    np.save(written.folder / "text_feat.npy", np.zeros((N_ITEMS + 1, 4)))
    with pytest.raises(PerPEFTError, match=r"text_feat\.npy has 13 rows, and .*baby\.item 12 items"):
        trained(written, tmp_path, monkeypatch, "PerPEFTSASRec", hidden_size=16, n_heads=2)


@pytest.mark.parametrize("words", [[], ["--keep_split"]])
def test_check_has_nothing_against_what_was_written(prepare, source, words, capsys):
    written = prepare("baby", "mmrec", source, "baby", *words)
    settings = [f"--config_files={written.folder / 'baby.yaml'}", "--topk=[5]", "--valid_metric=NDCG@5"]
    status, said = main(["check", *settings]), capsys.readouterr().out
    assert status == 0, said
    assert "bought, without a line   0 of 11" in said


def test_a_number_in_another_spelling_is_no_row(prepare, source):
    inter = source / "baby.inter"
    inter.write_text(inter.read_text() + "1\t03\t5.0\t2000\t0\n")
    with pytest.raises(DataError, match="item '03' has no row in the features"):
        prepare("baby", "mmrec", source, "baby")


def test_what_does_not_fit_is_named(prepare, source):
    np.save(source / "text_feat.npy", np.zeros((N_ITEMS - 3, 4)))
    with pytest.raises(DataError, match="rows: they have to be as many"):
        prepare("baby", "mmrec", source, "baby")
    (source / "image_feat.npy").unlink()
    with pytest.raises(DataError, match=r"item '\d+' has no row in the features, which are of 9 items"):
        prepare("baby", "mmrec", source, "baby")
    (source / "text_feat.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"text_feat\.npy cannot be read"):
        prepare("baby", "mmrec", source, "baby")
    (source / "text_feat.npy").unlink()
    with pytest.raises(DataError, match="has neither image_feat.npy nor text_feat.npy"):
        prepare("baby", "mmrec", source, "baby")


@pytest.mark.parametrize(("label", "part"), [("0", "train"), ("1", "valid"), ("2", "test")])
def test_a_split_without_one_of_its_parts_is_not_kept(prepare, source, label, part):
    lines = (source / "baby.inter").read_text().splitlines()
    (source / "baby.inter").write_text("".join(f"{line}\n" for line in lines if not line.endswith(f"\t{label}")))
    with pytest.raises(DataError, match=rf"--keep_split: no purchase is in the part '{part}' \(x_label {label}\)"):
        prepare("baby", "mmrec", source, "baby", "--keep_split")
    assert not list((prepare.out / "baby").glob("*.inter"))
