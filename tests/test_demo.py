"""The embedded demo: re-creatable from its seed, within its limits, and honest about what stands where."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from dataset.make import demo as make_demo
from dataset.make.aspects import ASPECTS, INDEX, PICTURE, TITLE, shown_in, words_of
from dataset.make.catalogue import Catalogue, make_catalogue
from dataset.make.describe import embed, leave_one_out
from dataset.make.pictures import draw
from dataset.make.pretrain_encoder import PRETRAINING_SEEDS, PretrainingPairs
from dataset.make.purchases import LONGEST, SHORTEST, Purchases, make_purchases

DEMO = Path(__file__).parents[1] / "dataset" / "demo"
ENCODER = DEMO / "encoder"
MIB = 2**20


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(make_demo.N_ITEMS, make_demo.SEED)


@pytest.fixture(scope="module")
def purchases(catalogue: Catalogue) -> Purchases:
    return make_purchases(catalogue, make_demo.N_USERS, make_demo.SEED)


def _size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


@pytest.mark.parametrize("suffix", ["inter", "item"])
def test_atomic_files_come_from_the_seed(
    catalogue: Catalogue, purchases: Purchases, tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    make_demo.write_atomic_files(catalogue, purchases, folder)
    assert (folder / f"demo.{suffix}").read_bytes() == (DEMO / f"demo.{suffix}").read_bytes()


def test_pictures_come_from_the_seed(catalogue: Catalogue) -> None:
    pictures = catalogue.pictures(make_demo.SIDE, slice(0, 40))
    for item_id, picture in zip(catalogue.item_ids, pictures, strict=False):
        committed = np.asarray(Image.open(DEMO / "images" / f"{item_id}.png"))
        # another machine's sine may round one level differently
        assert np.abs(committed.astype(int) - picture).max() <= 1, item_id


def test_picture_does_not_depend_on_its_neighbours(catalogue: Catalogue) -> None:
    alone = catalogue.pictures(make_demo.SIDE, slice(7, 8))[0]
    np.testing.assert_array_equal(alone, catalogue.pictures(make_demo.SIDE, slice(0, 20))[7])


def test_every_item_has_a_picture_and_no_other_file_is_there(catalogue: Catalogue) -> None:
    assert sorted(file.stem for file in (DEMO / "images").iterdir()) == catalogue.item_ids


def test_sizes(catalogue: Catalogue, purchases: Purchases) -> None:
    lengths = np.bincount(purchases.users)
    assert len(lengths) == make_demo.N_USERS
    assert lengths.min() >= SHORTEST
    assert lengths.max() <= LONGEST
    assert len(set(zip(purchases.users, purchases.items, strict=True))) == len(purchases.items)
    in_order = np.diff(purchases.timestamps) > 0
    assert in_order[np.diff(purchases.users) == 0].all()
    assert _size([*DEMO.glob("demo.*"), *(DEMO / "images").iterdir()]) < 6 * MIB
    assert _size(list(ENCODER.rglob("*"))) < 8 * MIB


def test_titles_name_only_what_belongs_in_titles(catalogue: Catalogue) -> None:
    for values, title in zip(catalogue.values, catalogue.titles, strict=True):
        words = set(re.findall(r"\w+", title.lower()))
        for value, aspect in zip(values, ASPECTS, strict=True):
            if TITLE in aspect.shown_in:
                own = list(aspect.values.values())[value]
                assert words & {word.lower() for word in own}, (title, aspect.name)
            else:
                assert not words & words_of(aspect.name), (title, aspect.name)


def test_no_word_names_two_aspects() -> None:
    words = [word for aspect in ASPECTS for word in words_of(aspect.name)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("aspect", ASPECTS, ids=lambda aspect: aspect.name)
def test_pictures_show_only_what_belongs_in_pictures(catalogue: Catalogue, aspect) -> None:
    values = catalogue.values[:8].copy()
    column = INDEX[aspect.name]
    values[:, column] = (values[:, column] + 1) % len(aspect.values)
    before = catalogue.pictures(make_demo.SIDE, slice(0, 8))
    after = draw(values, np.array(shown_in(PICTURE)), catalogue.jitter[:8], make_demo.SIDE)
    changed = (before != after).reshape(8, -1).any(axis=1)
    assert (changed == (PICTURE in aspect.shown_in)).all()


def test_purchases_can_be_learnt_but_not_guessed(catalogue: Catalogue, purchases: Purchases) -> None:
    ndcg = {name: result[0] for name, result in leave_one_out(catalogue, purchases).items()}
    assert 0.15 < ndcg["oracle"] < 0.35
    assert ndcg["random"] < ndcg["popularity"] < 0.05


def test_control_experiment_has_one_pair_of_aspects(catalogue: Catalogue) -> None:
    control = make_purchases(catalogue, 50, make_demo.SEED, same_aspects=True)
    attended = control.tastes.any(axis=2)
    assert (attended == attended[0]).all()
    assert attended[0].sum() == 2


def test_encoder_saw_other_catalogues() -> None:
    assert make_demo.SEED not in PRETRAINING_SEEDS
    with pytest.raises(ValueError, match="demo's seed"):
        PretrainingPairs(1, (make_demo.SEED,))


def test_tokenizer_suits_the_model() -> None:
    tokenizer = AutoTokenizer.from_pretrained(ENCODER)
    model = CLIPModel.from_pretrained(ENCODER)
    text = model.config.text_config
    assert text.eos_token_id == tokenizer.eos_token_id != 2
    assert text.pad_token_id == tokenizer.pad_token_id
    assert text.vocab_size == len(tokenizer)
    assert text.max_position_embeddings == tokenizer.model_max_length
    short, long = tokenizer(["Cork mug", "Zebra 42 übergroß: a word that nobody trained on"]).input_ids
    for ids in (short, long):
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.unk_token_id not in ids
    assert len(tokenizer(" ".join(["mug"] * 99), truncation=True).input_ids) == text.max_position_embeddings

    # padding changes nothing: pooling finds the end token
    alone = tokenizer("Cork mug", return_tensors="pt")
    padded = tokenizer("Cork mug", return_tensors="pt", padding="max_length")
    with torch.no_grad():
        torch.testing.assert_close(
            model.get_text_features(**alone).pooler_output,
            model.get_text_features(**padded).pooler_output,
            atol=1e-5,
            rtol=1e-4,
        )


def test_image_processor_keeps_the_pictures_size() -> None:
    processor = AutoImageProcessor.from_pretrained(ENCODER, backend="pil")
    pixels = processor(Image.open(DEMO / "images" / "i00001.png"), return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, make_demo.SIDE, make_demo.SIDE)
    assert pixels.min() >= -1
    assert pixels.max() <= 1


def test_picture_and_title_of_an_item_agree(catalogue: Catalogue) -> None:
    images, texts = embed(catalogue, ENCODER, make_demo.SIDE)
    cosines = images @ texts.T
    own, others = cosines.diagonal(), cosines[~np.eye(len(catalogue), dtype=bool)]
    assert own.mean() > others.mean() + 0.1
