"""Rows of the id table and its norm have the gradient that torch gives, and the norm weighs as a prior does."""

import shutil
from pathlib import Path

import pytest
import torch

from recbole_perpeft.model.id_rows import DEVIATION, norm_weight, rows_and_norm


@pytest.mark.parametrize("weight_of_norm", [0.0, 0.1])
def test_rows_and_norm_are_those_of_torch_and_so_is_their_gradient(weight_of_norm):
    torch.manual_seed(0)
    table = torch.randn(50, 6, requires_grad=True)
    items, towards = torch.tensor([3, 7, 20, 49]), torch.randn(4, 6)
    expected = (table[items] * towards).sum() + weight_of_norm * table.pow(2).sum().sqrt()
    (gradient,) = torch.autograd.grad(expected, table)
    rows, norm = rows_and_norm(table, items)
    loss = (rows * towards).sum() + weight_of_norm * norm
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, table)[0], gradient)


def test_a_table_of_zeros_has_a_norm_without_gradient():
    table = torch.zeros(5, 2, requires_grad=True)
    rows, norm = rows_and_norm(table, torch.tensor([1, 2]))
    (rows.sum() + norm).backward()
    assert table.grad.tolist() == [[0, 0], [1, 1], [1, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize(("items", "purchases"), [(50, 400), (2000, 6000)])
def test_the_norm_pulls_as_a_normal_prior_of_the_ids_does(items, purchases):
    torch.manual_seed(0)
    table = torch.randn(items, 16)
    table = (table * DEVIATION * table.numel() ** 0.5 / table.norm()).requires_grad_()
    prior = -torch.distributions.Normal(0.0, DEVIATION).log_prob(table).sum() / purchases  # beside a mean loss
    (expected,) = torch.autograd.grad(prior, table)
    (pull,) = torch.autograd.grad(norm_weight(table.numel(), purchases) * table.norm(), table)
    torch.testing.assert_close(pull, expected)


def test_a_model_takes_the_weight_of_its_data_unless_one_is_set(prepare):
    _, trainer, train_data, _, _ = prepare()
    table = trainer.model.item_tower.id_embedding.weight
    n = sum(len(train_data.histories[user]) - 1 for user in train_data.users)  # all but the first are predicted
    assert trainer.model.l2_emb == pytest.approx(table.numel() ** 0.5 / (DEVIATION * n))
    _, trainer, _, _, _ = prepare(l2_emb=0.02)
    assert trainer.model.l2_emb == 0.02


def test_items_that_nobody_buys_in_training_have_no_id_that_would_weigh(prepare, tiny_root, tmp_path):
    place = Path(shutil.copytree(tiny_root / "tiny", tmp_path / "tiny"))
    with (place / "tiny.item").open("a") as items:
        items.writelines(f"new{number}\tred bag\t1\n" for number in range(200))
    for number in range(200):
        shutil.copy(place / "images" / "i0.png", place / "images" / f"new{number}.png")
    _, trainer, *_ = prepare()
    _, grown, *_ = prepare(data_path=str(tmp_path), unbought_items=True)
    assert grown.model.n_items == trainer.model.n_items + 200
    assert grown.model.l2_emb == pytest.approx(trainer.model.l2_emb)
