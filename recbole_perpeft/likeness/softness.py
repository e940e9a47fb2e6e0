"""How sharply likeness tells what is bought next: the temperature and decay that predict purchases best."""

import math

import torch
from torch.nn import functional as F

from recbole_perpeft.likeness.similarity import profiles

SHARPER = 0.9  # of the temperature: what learns tells items apart better than that by which it is found
_TEMPERATURES = tuple(0.05 * 2 ** (step / 8) for step in range(33))  # to 0.8
_DECAYS = (0.65, 0.8, 1.0)
_PURCHASES = 2**10  # by which they are judged
_ITEMS = 2**13  # among which


def loss_among(own: torch.Tensor, others: torch.Tensor, n_items: int) -> torch.Tensor:
    """Softmax cross entropy of rows' targets among all items, by some that were drawn.

    Parameters
    ----------
    own
        Scores of the targets, ``[n, 1]``.
    others
        Of the items that were drawn, ``[n, m]``, minus infinity where one is the row's target. Each stands for as many
        as were not.
    n_items
        Of the catalogue, without padding.

    Returns
    -------
    torch.Tensor
        ``[n]``.
    """
    ahead = others.logsumexp(dim=1) + math.log(n_items / others.shape[1]) - own.squeeze(1)
    return F.softplus(ahead)  # log(exp(own) + what the others come to) - own


def likeliest_softness(table: torch.Tensor, histories: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    """The temperature and the decay with which likeness predicts purchases best, of some that are tried.

    Best is the least cross entropy among all items, or some of many that are drawn. How far cosines of unlike items
    spread, and of how many, differs from one encoder and catalogue to another.

    Parameters
    ----------
    table
        Unit vectors of all items, ``[n_items, d]``; row 0 is zeros.
    histories, targets
        Purchases, ``[n]``, and what was bought before each, ``[n, length]``, oldest first, padded with zeros.

    Returns
    -------
    tuple
        What cosines are divided by, and what a purchase weighs, as a share of the one after it.
    """
    generator = torch.Generator().manual_seed(0)  # the same for all processes
    rows = torch.randperm(len(targets), generator=generator)[:_PURCHASES]
    items = 1 + torch.randperm(len(table) - 1, generator=generator)[:_ITEMS].to(table.device)
    histories, targets = histories[rows].to(table.device), targets[rows].to(table.device)
    others, found = table[items].T, []  # [d, m]
    for decay in _DECAYS:
        queries = profiles(table, histories, decay)  # [n, d]
        own = (queries * table[targets]).sum(dim=1, keepdim=True)  # [n, 1]
        cosines = (queries @ others).masked_fill_(items == targets[:, None], -torch.inf)  # [n, m]
        for temperature in _TEMPERATURES:
            losses = loss_among(own / temperature, cosines / temperature, len(table) - 1)
            found.append((losses.mean().item(), temperature, decay))
    return min(found)[1:]
