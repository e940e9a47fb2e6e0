"""What is read from files is known by its content: nothing trained on other content is ever taken for it."""

import json
import os
import shutil

import pytest
from PIL import Image
from transformers import CLIPModel

from recbole_perpeft.config import sources
from recbole_perpeft.config.identity import counting, differing
from recbole_perpeft.quick_start import load, prepare
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer.stage_1_cache import file_of
from recbole_perpeft.utils.errors import MisfitError
from tests.matrix import slow


@pytest.fixture
def shop(tiny, tiny_root, tmp_path):
    """``shop(**settings)`` gives a Config of a short run on a copy of the data in ``shop.folder``."""
    root = tmp_path / "copy"
    shutil.copytree(tiny_root / "tiny", root / "tiny")

    def make(**settings):
        places = {"data_path": str(root), "content_cache": str(tmp_path / "cache")}
        return tiny(**{**places, "epochs": 1, "global_epochs": 0, "num_groups": 1, **settings})

    make.folder = root / "tiny"
    return make


def train(config):
    _, trainer, train_data, valid_data, _ = prepare(config)
    trainer.fit(train_data, valid_data, verbose=False)
    return trainer


def exchange(file, one, other):
    """Put the words ``one`` and ``other`` in each other's place."""
    text = file.read_text()
    assert one in text
    assert other in text
    file.write_text(text.replace(one, "\0").replace(other, one).replace("\0", other))


def other_titles(folder):
    exchange(folder / "tiny.item", "golf", "camp")


def other_picture(folder):
    """Of the same size and the same time as the one before."""
    file = folder / "images" / "i3.png"
    before = file.stat()
    picture = Image.open(file).convert("RGB")
    picture.transpose(Image.Transpose.ROTATE_180).save(file)
    with file.open("ab") as end:
        end.write(b"\0" * max(0, before.st_size - file.stat().st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_weights(folder):
    model = CLIPModel.from_pretrained(folder / "clip")
    model.text_projection.weight.data.mul_(-1)
    model.save_pretrained(folder / "clip")


def other_activation(folder):
    file = folder / "clip" / "config.json"
    config = json.loads(file.read_text())
    config["text_config"]["hidden_act"] = "relu"
    file.write_text(json.dumps(config))


def other_normalisation(folder):
    file = folder / "clip" / "preprocessor_config.json"
    processor = json.loads(file.read_text())
    file.write_text(json.dumps({**processor, "image_mean": [0.1, 0.1, 0.1]}))


def last_two_purchases(folder):
    """Exchange the times of the last two purchases of a user: another item tests."""
    file = folder / "tiny.inter"
    lines = file.read_text().splitlines()
    last = max(place for place, line in enumerate(lines) if line.startswith("u3\t"))
    (one, first), (two, second) = (lines[place].rsplit("\t", 1) for place in (last - 1, last))
    lines[last - 1], lines[last] = f"{one}\t{second}", f"{two}\t{first}"
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_titles, "content hash: .* Titles or pictures, or what"),
        slow(other_picture, "content hash: .* Titles or pictures, or what"),
        (other_weights, "encoder hash: .* weights or configuration are not those of then"),
        slow(other_activation, "encoder hash: .* weights or configuration are not those of then"),
        slow(other_normalisation, "encoder hash: .* weights or configuration are not those of then"),
        (last_two_purchases, "dataset hash: .* what is kept of them, are not those of then.*warm_start.*--new_data"),
    ],
)
def test_what_was_overwritten_in_place_is_another(shop, tmp_path, change, named):
    trainer = train(shop())
    file, with_groups = trainer.saved_model_file, shop(epochs=2, global_epochs=1, num_groups=2)
    change(shop.folder)
    _, other, *_ = prepare(shop())
    for read in (other.resume_checkpoint, lambda file: other.evaluate([], model_file=file), load):
        with pytest.raises(MisfitError, match=f"{file} does not fit this run. .*{named}"):
            read(file)
    stages_1 = [file_of(tmp_path, with_groups, one.checkpoint.identity) for one in (trainer, other)]
    assert None not in stages_1
    assert stages_1[0] != stages_1[1]


def test_the_test_item_of_a_general_model_counts_too(shop):
    settings = {"model": "PerPEFTBPR", "loss_type": None}
    file = train(shop(**settings)).saved_model_file
    last_two_purchases(shop.folder)
    with pytest.raises(MisfitError, match="dataset hash"):
        load(file)


def test_a_copy_with_other_times_and_places_is_the_same(shop, tmp_path):
    trainer = train(shop())
    score = trainer.evaluate(prepare(shop())[4])
    moved = tmp_path / "moved" / "tiny"
    shutil.copytree(shop.folder, moved, copy_function=shutil.copyfile)
    for file in moved.rglob("*"):
        os.utime(file, (1, 1))
    shutil.rmtree(shop.folder)
    places = {"data_path": str(moved.parent), "content_cache": str(tmp_path / "other cache")}
    _, again, _, _, test_data = load(trainer.saved_model_file, places)
    now, then = again.checkpoint.identity, trainer.checkpoint.identity
    assert now == {**then, "encoder": now["encoder"]}
    assert again.evaluate(test_data) == score


def test_a_checkpoint_of_other_sources_is_named(shop, monkeypatch, caplog):
    file = train(shop()).saved_model_file
    load(file)
    assert "another build" not in caplog.text
    monkeypatch.setattr(checkpoint_file, "sources_hash", lambda: "0123456789abcdef")
    load(file)
    assert (
        f"{file} was written by another build of recbole_perpeft (sources {sources.sources_hash()}, now" in caplog.text
    )


def test_the_sources_hash_changes_with_a_source_file_and_with_a_default(tmp_path, monkeypatch):
    package, properties = tmp_path / "recbole_perpeft", tmp_path / "properties"
    package.mkdir()
    properties.mkdir()
    monkeypatch.setattr(sources, "_PACKAGE", package)
    monkeypatch.setattr(sources, "PROPERTIES", properties)
    hashes = set()
    for file in (package / "a.py", package / "b.py", properties / "overall.yaml"):
        for text in ("1\n", "2\n"):
            file.write_text(text)
            hashes.add(sources.sources_hash.__wrapped__())
    (package / "notes.txt").write_text("no source")
    hashes.add(sources.sources_hash.__wrapped__())
    assert len(hashes) == 6


def test_a_setting_counts_unless_it_is_named_as_a_place(tiny):
    settings = tiny().settings()
    assert settings.keys() - counting(settings).keys() >= {"data_path", "encoder", "show_progress", "content_cache"}
    counts = {"seed", "text_fields", "loss_type", "eval_args", "valid_metric", "a setting of tomorrow"}
    assert counts <= counting({**settings, "a setting of tomorrow": 1}).keys()
    assert differing({"topk": (5,), "seed": 1, "old": 1}, {"topk": [5], "seed": 2, "new": 1}) == {"seed": (1, 2)}
