"""Items that nobody buys in training: held out, scored from their content, ranked among themselves."""

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_perpeft.data.cold_items import hold_out
from recbole_perpeft.data.preparation import create_dataset
from recbole_perpeft.quick_start import run
from recbole_perpeft.utils.errors import SettingError

COLD = {"cold_items": 0.3, "group_negatives": False}


def test_cold_items_stay_as_last_purchases_only():
    sequences = {"a": "vwxyz", "b": "zyxwv", "c": "vwxy", "d": "zvwxyu"}
    rows = [(user, item, second) for user, items in sequences.items() for second, item in enumerate(items)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"]).sample(frac=1, random_state=0).reset_index(drop=True)
    kept, cold = hold_out(frame, "user", "item", "time", share=0.2, seed=0)
    assert len(cold) == 1
    (item,) = cold
    expected = {}
    for user, items in sequences.items():
        left = items[:-1].replace(item, "") + items[-1]
        if len(left) >= 4:
            expected[user] = left
    found = kept.sort_values(["user", "time"]).groupby("user")["item"].agg("".join).to_dict()
    assert found == expected


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "SASRec"])
def test_training_and_validation_see_no_cold_item_and_the_test_ranks_only_them(prepare, model):
    dataset, _, train_data, valid_data, test_data = prepare(model=model, **COLD)
    cold = set(dataset.cold_ids().tolist())
    assert len(cold) > 3
    trained = train_data._dataset
    assert not cold & set(np.concatenate(list(trained.training_sequences().values())).tolist())
    assert not cold & set(trained.inter_feat["item_id_list"].unique().tolist())
    assert not cold & set(valid_data._dataset.inter_feat["item_id"].tolist())
    targets = set(test_data._dataset.inter_feat["item_id"].tolist())
    assert targets
    assert targets <= cold
    interaction, (rows, masked), _, _ = next(iter(test_data))
    for row in range(len(interaction)):
        assert set(masked[rows == row].tolist()) == set(range(1, dataset.item_num)) - cold


def test_no_negative_is_a_cold_item(prepare):
    dataset, _, train_data, _, _ = prepare(num_negatives=16, **COLD)
    cold = set(dataset.cold_ids().tolist())
    assert not any(cold & set(batch.items.tolist()) for batch in train_data)


def test_a_cold_item_is_its_content_alone(prepare):
    dataset, trainer, _, _, _ = prepare(content_weight=0.7, **COLD)
    model = trainer.model.eval()
    tower, cold = model.item_tower, torch.from_numpy(dataset.cold_ids())
    warm = torch.tensor(sorted(set(range(1, model.n_items)) - set(cold.tolist())))
    with torch.no_grad():
        for items, weight in ((cold, 0.0), (warm, 1.0)):
            content = 0.7 * tower.projectors[0](tower.encoder.encode(items, 0))
            expected = content + weight * tower.id_embedding(items)
            torch.testing.assert_close(tower.embed(items, 0), expected)
            with tower.catalogue(0):
                torch.testing.assert_close(tower.weight[items], expected, rtol=1e-4, atol=1e-5)


def test_a_run_on_cold_items_ends_with_a_score(tiny):
    settings = tiny(epochs=2, global_epochs=1, **COLD).settings()
    result = run("PerPEFTSASRec", "tiny", config_dict=settings, saved=False)
    assert 0 <= result["test_result"]["ndcg@10"] <= 1


@pytest.mark.parametrize("share", [0, 1, True, "some"])
def test_a_share_that_is_none_is_refused(tiny, share):
    with pytest.raises(SettingError, match="cold_items: .* must be between 0 and 1"):
        tiny(cold_items=share)


def test_general_recommenders_are_not_tested_on_cold_items(tiny):
    with pytest.raises(SettingError, match="cold_items: 0.3 is not possible with BPR: only sequential"):
        create_dataset(tiny(model="BPR", embedding_size=8, **COLD))
