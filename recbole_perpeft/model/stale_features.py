"""What rows that were not computed would be now, by how those that were have changed."""

import torch

# Of the mean variance of the rows: what few rows say about many directions is held back.
_RIDGE = 0.03
_ROUNDING = 1e-6  # of their mean square: rows that differ by less, as one alone or equal ones, say of no direction


def extrapolate(before: torch.Tensor, rows: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
    """Carry a table on from what some of its rows are now.

    An affine map from what a row was to how far it has moved is fitted to the rows that are known, by ridge regression
    (Hoerl and Kennard, 1970), and moves all others. It is linear in ``now``: a gradient that reaches the others reaches
    the known rows through it, as if all had been computed.

    Parameters
    ----------
    before
        The table as it was last computed, ``[n, d]``.
    rows
        The rows that are known, ``[m]``, at least one.
    now
        What these are, ``[m, d]``.

    Returns
    -------
    torch.FloatTensor
        ``[n, d]``; its ``rows`` are ``now``.
    """
    with torch.autocast(before.device.type, enabled=False):  # there is no solving in half precision
        before, now = before.float(), now.float()
        known = before.index_select(0, rows)  # [m, d]
        moved = now - known  # [m, d]
        centre, mean = known.detach().mean(dim=0), moved.mean(dim=0)  # [d]
        least = _ROUNDING * known.detach().double().square().sum(dim=0).mean() + torch.finfo(torch.double).tiny
        known = (known.detach() - centre).double()  # products of them have twice the digits
        gram = known.T @ known  # [d, d]
        gram.diagonal().add_((_RIDGE * gram.diagonal().mean()).clamp(min=least))
        # solve would wait for the GPU to hear whether it could; with the ridge it can
        slopes = torch.linalg.solve_ex(gram, known.T @ (moved - mean).double()).result.float()  # [d, d]
        others = before + mean + (before.detach() - centre) @ slopes  # [n, d]
        return others.index_copy(0, rows, now)
