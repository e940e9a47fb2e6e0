"""Rows of the id table and its norm, whose gradients come together in one table: each is as large as the catalogue."""

import torch


class _RowsAndNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        norm = torch.linalg.vector_norm(table)
        ctx.save_for_backward(table, norm, items)
        return table[items], norm

    @staticmethod
    def backward(ctx, of_rows: torch.Tensor, of_norm: torch.Tensor) -> tuple[torch.Tensor, None]:
        table, norm, items = ctx.saved_tensors
        gradient = table * torch.where(norm > 0, of_norm / norm, 0.0)
        return gradient.index_add_(0, items, of_rows), None


def rows_and_norm(table: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Some rows of ``table``, ``[n, d]``, and the Euclidean norm of all of it, ``[]``.

    By torch's own functions the gradient of a step would be made in four tables, of which two are in memory at once.

    Parameters
    ----------
    items
        Rows ``[n]``, padding not among them.
    """
    return _RowsAndNorm.apply(table, items)
