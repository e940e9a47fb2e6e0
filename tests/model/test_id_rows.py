"""Rows of the id table and its norm have the gradient that torch's own functions give."""

import pytest
import torch

from recbole_perpeft.model.id_rows import rows_and_norm


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
