"""Bundles: what is opened scores as what was exported, and what is not as it was written is refused."""

import pytest
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.serving.bundle import open_bundle, write_bundle

CASES = {
    "sequential": {},
    "graph": {"model": "PerPEFTLightGCN"},
    "general": {"model": "PerPEFTSimpleX"},
    "soft": {"soft_groups": True, "content_term": True},
    "one group": {"num_groups": 1, "content_term": True},
    "IISAN": {"peft_type": "IISAN", "peft_config": None, "content_term": True},
    "frozen": {"peft_type": "NONE", "peft_config": None},
    "by user": {"personalised_by": "user_vector"},
    "k-means": {"grouping": "kmeans", "group_negatives": False},
    "SASRec": {"model": "SASRec", "epochs": 1},
    "BPR": {"model": "BPR", "epochs": 1},
    "LightGCN": {"model": "LightGCN", "epochs": 1},
}


def scores(model, part, sequential):
    rows = part.inter_feat if sequential else part.inter_feat[torch.arange(8)]
    with torch.no_grad():
        return model.eval().full_sort_predict(rows[torch.arange(8)])


@pytest.mark.parametrize("case", CASES)
def test_what_is_opened_scores_as_the_checkpoint(checkpoint, tmp_path, monkeypatch, case):
    trainer, loaders, file = checkpoint(**CASES[case])
    write_bundle(file, tmp_path / "b")
    _, loaded, *parts = quick_start.load(file)
    _, model, dataset = open_bundle(tmp_path / "b", {"data_path": "nowhere", "encoder": "nowhere"} if "PerPEFT" in type(model_of(loaded)).__name__ else {"data_path": "nowhere"})
    for before, after in zip(parts, dataset.parts, strict=True):
        before = before._dataset
        assert before.inter_feat.columns == after.inter_feat.columns
        for field in before.inter_feat.columns:
            assert torch.equal(before.inter_feat[field], after.inter_feat[field]), field
        assert torch.equal(scores(loaded.model, before, True), scores(model, after, True))


def model_of(trainer):
    return trainer.model
