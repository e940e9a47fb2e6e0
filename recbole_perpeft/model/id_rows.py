"""Rows of the id table, its norm, and how much that weighs in a loss; a gradient of it is as large as the table."""

import torch

DEVIATION = 0.4  # of the numbers of ids under their prior; tried on three data sets (docs/method.md)


def norm_weight(numbers: int, purchases: int) -> float:
    """What the norm of the ID table weighs in the mean loss of a purchase, if ids have one prior in all data sets.

    Where ids are as far from zero as a normal distribution of standard deviation :data:`DEVIATION` has them, the norm
    pulls them back as that prior does beside the sum of all losses. So the more purchases there are of each item, the
    less it has to say.

    Parameters
    ----------
    numbers
        Of the table that training moves: items that it does not see have no id.
    purchases
        That are trained on.
    """
    return numbers**0.5 / (DEVIATION * max(purchases, 1))


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
