"""Weights that stand in for others for a while."""

import torch

from recbole_perpeft.utils import weights


def test_weights_and_those_that_stand_in_for_them_change_places_and_come_back(monkeypatch):
    monkeypatch.setattr(weights, "_ROWS", 2)
    trained, others = [torch.rand(5, 3), torch.rand(())], [torch.rand(5, 3), torch.rand(())]
    before = [tensor.clone() for tensor in trained + others]
    with weights.in_place(trained, others):
        assert all(map(torch.equal, others + trained, before))
    assert all(map(torch.equal, trained + others, before))
