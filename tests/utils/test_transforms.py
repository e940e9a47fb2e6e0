"""What is random in RecBole's transforms stays in training; negatives are drawn where there are none, and that ends."""

import random

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import MaskItemSequence

from recbole_perpeft.quick_start import run
from recbole_perpeft.utils.errors import SettingError
from tests.tiny_data import write_atomic

REPEATS = {"rm_dup_inter": None, "mask_history": False}


@pytest.fixture(scope="module")
def glutton_root(tmp_path_factory, tiny_root):
    """A folder with the data set ``glutton``: all users begin with the same two items, and one comes to buy all 12."""
    root = tmp_path_factory.mktemp("glutton")
    items = [f"i{number}" for number in range(12)]
    sequences = {f"u{user}": [*items[:2], *items[user % 6 + 2 : user % 6 + 6]] for user in range(9)}
    write_atomic(root, "glutton", {**sequences, "u9": [*items, items[0]]}, items)
    (root / "glutton" / "clip").symlink_to(tiny_root / "tiny" / "clip")
    return root


@pytest.mark.parametrize("mode", ["full", "uni5"])
@pytest.mark.parametrize(("model", "settings", "added"), [
    ("BERT4Rec", {}, set()),
    ("PerPEFTBERT4Rec", {}, set()),
    ("SASRec", {"transform": "reorder_itemseq", "beta": 0.5}, set()),
    ("SHAN", {}, {"Inverse_item_id_list"}),
])  # fmt: skip
def test_evaluation_draws_nothing_but_what_a_model_reads_is_there(prepare, mode, model, settings, added):
    protocol = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode}
    dataset, _, _, valid_data, test_data = prepare(model=model, eval_args=protocol, **settings)
    for loader in (valid_data, test_data):
        before = random.getstate()
        given = set().union(*(batch[0].interaction for batch in loader))
        assert random.getstate() == before
        assert added == {name for name in given if name[0].isupper()}


def test_a_masked_sequence_with_all_items_gets_each_item_for_its_negative(prepare):
    dataset, trainer, _, _, _ = prepare(model="BERT4Rec")
    mask = MaskItemSequence({**trainer.config.final_config_dict, "mask_ratio": 1.0, "MAX_ITEM_LIST_LENGTH": 40})
    sequences = torch.zeros(2, 40, dtype=torch.long)
    sequences[0, :30] = torch.arange(1, 31)
    sequences[1, :29] = torch.arange(2, 31)
    masked = mask(dataset, Interaction({"item_id_list": sequences, "item_length": torch.tensor([30, 29])}))
    assert torch.equal(masked["Pos_item_id"][0], masked["Neg_item_id"][0])
    assert masked["Neg_item_id"][1].tolist() == [0] * 11 + [1] * 29  # the only item that is left
    assert masked["Pos_item_id"][1].tolist() == [0] * 11 + list(range(2, 31))


@pytest.mark.parametrize(("model", "settings"), [
    ("BERT4Rec", {**REPEATS}),
    ("BERT4Rec", {**REPEATS, "loss_type": "BPR"}),
    ("PerPEFTBERT4Rec", {**REPEATS, "num_groups": 1}),
    ("LINE", {"user_inter_num_interval": "[4,11]"}),
])  # fmt: skip
def test_a_run_ends_where_no_negative_is_left(tiny, glutton_root, model, settings):
    settings = {"MAX_ITEM_LIST_LENGTH": 12, "mask_ratio": 0.5, "epochs": 2, "global_epochs": 1, **settings}
    settings = {"data_path": str(glutton_root), "content_cache": "cache", **settings}
    config = tiny(model=model, dataset="glutton", **settings)
    assert 0 < run(config_dict=config.settings())["test_result"]["ndcg@10"] <= 1


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("SASRec", {"transform": "crop"}, "Unknown transform 'crop'. Did you mean 'crop_itemseq'"),
        ("PerPEFTSASRec", {"transform": "crop_itemseq"}, "eta: ~ is not possible with transform: crop_itemseq"),
        ("BERT4Rec", {"MAX_ITEM_LIST_LENGTH": 4}, "mask_ratio: 0.2 is not possible with .*: 4: .* 0.25 or"),
        ("PerPEFTBERT4Rec", {"mask_ratio": 0}, "mask_ratio: 0 is not possible with MAX_ITEM_LIST_LENGTH"),
        ("BERT4Rec", {"mask_ratio": 2}, "mask_ratio: 2 is not possible with transform: mask_itemseq: set 0 to 1"),
        ("BERT4Rec", {"transform": None}, "transform: ~ is not possible with BERT4Rec, which reads mask_itemseq"),
    ],
)
def test_a_transform_that_cannot_be_is_refused_before_loading(tiny, model, settings, message):
    with pytest.raises(SettingError, match=message):
        tiny(model=model, **settings)


def test_a_transform_that_nothing_reads_is_said_to_have_no_effect(tiny):
    said = "transform: reorder_itemseq has no effect on SASRec, which does not read what it makes."
    assert said in tiny(model="SASRec", transform="reorder_itemseq", beta=0.5).remarks
    assert not any("transform" in remark for remark in tiny(model="BERT4Rec").remarks)
