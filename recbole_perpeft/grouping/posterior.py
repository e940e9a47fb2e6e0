"""How likely each group is to be a user's, by how well its module predicts what they bought."""

import torch

DRAWN_AT = 2.0  # temperature of the posterior that groups are drawn from in training (docs/method.md)
_NEGLIGIBLE = 0.02  # a smaller share moves no item, and costs as much to compute as any


def posteriors(losses: torch.Tensor, sizes: torch.Tensor, temperature: float | torch.Tensor) -> torch.Tensor:
    """``p(g | u)``, proportional to the group's size and to ``exp(-losses / temperature)``, ``[n, num_groups]``.

    Parameters
    ----------
    losses
        Sum of the losses of each user's purchases under each group's module, ``[n, num_groups]``.
    sizes
        Users of each group, ``[num_groups]``.
    temperature
        How far to distrust the losses: they come from purchases that the own group's module was trained on.
    """
    return torch.softmax(sizes.clamp(min=1).log() - losses / temperature, dim=1)


def soft_shares(own: torch.Tensor, posterior: torch.Tensor, softness: float | torch.Tensor) -> torch.Tensor:
    """What each group's module has of each user's scores, ``[n, num_groups]``, rows of sum 1.

    Parameters
    ----------
    own
        The group of each user, ``[n]``.
    posterior
        From :func:`posteriors`, ``[n, num_groups]``.
    softness
        The posterior's part; the rest is the own group's. Groups that come to next to nothing are left out, but for the
        largest, as of more than 50 groups none may come to more.
    """
    shares = softness * posterior
    shares = shares.scatter_add(1, own[:, None], (1 - softness) * torch.ones_like(shares[:, :1]))
    least = shares.max(dim=1, keepdim=True).values.clamp(max=_NEGLIGIBLE)
    shares = shares.masked_fill(shares < least, 0)
    return shares / shares.sum(dim=1, keepdim=True)


def tell_apart(losses: torch.Tensor) -> bool:
    """Whether modules tell users apart: one group is likelier than all others together, in the mean of the users.

    Whatever the groups' sizes: modules that tell nothing would leave all users to the largest.

    Parameters
    ----------
    losses
        As of :func:`posteriors`, ``[n, num_groups]``.
    """
    alike = torch.ones(losses.shape[1], device=losses.device)  # sizes
    return bool(posteriors(losses, alike, DRAWN_AT).max(dim=1).values.mean() > 0.5)


def drawn(posterior: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A group for each user, each as likely as ``posterior [n, num_groups]`` says, ``[n]``, on the CPU."""
    shares = posterior.cpu()
    chances = torch.rand(len(shares), 1, generator=generator)
    return (shares.cumsum(dim=1) < chances).sum(dim=1).clamp(max=shares.shape[1] - 1)
