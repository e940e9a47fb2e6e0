"""Products that nobody bought yet, in the catalogue (``unbought_items``)."""

import shutil

import pytest
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.evaluation.ranked_rows import model_scorer
from recbole_perpeft.quick_start import load, run
from recbole_perpeft.report.run_summary import candidates
from recbole_perpeft.utils.errors import DataError
from tests.day2 import ids_of
from tests.tiny_data import random_sequences, write_atomic

NEW = ["j0", "j1", "j2"]


@pytest.fixture
def new_products(tiny, tiny_root, tmp_path):
    """``new_products(**settings)``: a Config of ``tiny`` with three products that nobody bought."""
    sequences, items = random_sequences()
    place = write_atomic(tmp_path / "new", "tiny", sequences, items + NEW)
    shutil.copytree(tiny_root / "tiny" / "clip", place / "clip")
    return lambda **settings: tiny(data_path=str(tmp_path / "new"), **settings)


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTLightGCN", "SASRec"])
def test_they_are_ranked_with_the_others(new_products, model):
    dataset, trainer, _, _, test_data = quick_start.prepare(new_products(model=model, unbought_items=True))
    assert (dataset.item_num, candidates(trainer.config, test_data)) == (34, 33)
    items, trainer.tot_item_num = ids_of(dataset, "item_id"), dataset.item_num
    new = torch.tensor([items[item] for item in NEW])
    with torch.no_grad(), model_scorer(trainer, test_data) as score:
        for batch in test_data:
            _, scores, *_ = score(batch)
            assert scores.shape[1] == 34
            assert torch.isfinite(scores[:, new]).all()  # nobody has them in their history
    if model != "SASRec":
        assert set(new.tolist()) <= set(trainer.model.item_tower.untrained)
        with trainer.model.eval().item_tower.catalogue(0), torch.no_grad():
            tower = trainer.model.item_tower
            content = tower._project(tower.encoder.encode(new, 0), 0)
            assert torch.allclose(tower.weight[new], content, atol=1e-6)


def test_by_default_the_catalogue_is_what_was_bought(new_products):
    dataset, *_ = quick_start.prepare(new_products())
    assert dataset.item_num == 31
    assert not ids_of(dataset, "item_id").keys() & set(NEW)


def test_columns_that_are_named_stay_and_the_file_must_be_there(new_products, tmp_path):
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["brand"]}
    config = new_products(unbought_items=True, load_col=columns)
    assert config["load_col"] == {**columns, "item": ["item_id", "brand"]}
    (tmp_path / "new" / "tiny" / "tiny.item").unlink()
    with pytest.raises(DataError, match="tiny.item does not exist, but unbought_items: True takes the catalogue from"):
        quick_start.prepare(new_products(model="SASRec", unbought_items=True))


def test_a_trained_model_is_put_on_a_catalogue_with_them(new_products):
    result = run(config_dict=new_products(num_groups=1, epochs=1, global_epochs=1).settings())
    _, trainer, *_, test_data = load(result["checkpoint"], {"unbought_items": True}, new_data=True)
    assert candidates(trainer.config, test_data) == 33
    assert trainer.evaluate(test_data)
