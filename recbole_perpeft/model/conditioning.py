"""What stage 3 makes personal (``personalised_by``): each group's PEFT module, or less, for the paper's comparisons.

The paper compares a PEFT module per group with one global PEFT that is conditioned on the group or on the user: by a
projector of its own, or by a vector that scales and shifts the item embedding. A projector per user would be the size
of the data, so a user's projector is the common one with a vector of their own added to its inner layer.
"""

from abc import abstractmethod

import torch
from torch import nn

from recbole_perpeft.config.choices import GROUP_PEFT, GROUP_PROJECTOR, GROUP_VECTOR, USER_PROJECTOR, USER_VECTOR


def modules_of(personalised_by: str, num_groups: int) -> tuple[int, int]:
    """Number of PEFT modules and of projectors."""
    modules = num_groups if personalised_by == GROUP_PEFT else 1
    return modules, num_groups if personalised_by in (GROUP_PEFT, GROUP_PROJECTOR) else 1


class GroupVectors(nn.Module):
    """Scales and shifts item embeddings by a vector of the group: ``(1 + s_g) z + t_g``; both start at zero.

    Parameters
    ----------
    num_groups
        Number of groups.
    size
        Width of an item's embedding.
    """

    def __init__(self, num_groups: int, size: int):
        super().__init__()
        # one parameter for each group: of one for all, an optimiser would move the rows of the others too
        self.scales = nn.ParameterList(torch.zeros(size) for _ in range(num_groups))
        self.shifts = nn.ParameterList(torch.zeros(size) for _ in range(num_groups))

    def forward(self, rows: torch.Tensor, group: int) -> torch.Tensor:
        """``rows [..., size]`` as ``group`` sees them."""
        return (1 + self.scales[group]) * rows + self.shifts[group]

    def of_group(self, group: int) -> list[nn.Parameter]:
        """The vectors of a group."""
        return [self.scales[group], self.shifts[group]]

    @torch.no_grad()
    def copy_group(self, source: int) -> None:
        """Give every group the vectors of group ``source``."""
        for vectors in (self.scales, self.shifts):
            for vector in vectors:
                vector.copy_(vectors[source])


class UserConditioning(nn.Module):
    """Items as a single user sees them. Vectors start at zero: all users see alike until they are trained.

    Attributes
    ----------
    in_use : torch.BoolTensor
        Whether users see items in their own way by now, ``[]``; not before stage 3.
    by_user : bool
        The same: to read a tensor, a step would have to wait for the GPU.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("in_use", torch.zeros((), dtype=torch.bool))
        self.by_user = False

    def start(self) -> None:
        """From now on users see items in their own way."""
        self.in_use.fill_(True)
        self.by_user = True

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self.by_user = bool(self.in_use)

    @abstractmethod
    def rows(
        self, projector: nn.Sequential, weight: float, features: torch.Tensor, ids: torch.Tensor, users: torch.Tensor
    ) -> torch.Tensor:
        """Embeddings of items for each user.

        Parameters
        ----------
        projector
            The common projector, ``[..., content_size] -> [..., d]``.
        weight
            The paper's w.
        features, ids
            Of the items, ``[m, content_size]`` and ``[m, d]``.
        users
            User ids, ``[u]``.

        Returns
        -------
        torch.Tensor
            ``[u, m, d]``.
        """


class UserVectors(UserConditioning):
    """Scales and shifts item embeddings by a vector of the user: ``(1 + s_u) z + t_u``."""

    def __init__(self, n_users: int, size: int):
        super().__init__()
        self.scale, self.shift = _zeros(n_users, size), _zeros(n_users, size)

    def rows(self, projector, weight, features, ids, users):
        rows = weight * projector(features) + ids  # [m, d]
        return (1 + self.scale(users))[:, None] * rows + self.shift(users)[:, None]  # [u, m, d]


class UserProjectors(UserConditioning):
    """Adds a vector of the user to what the projector's first layer gives."""

    def __init__(self, n_users: int, inner_size: int):
        super().__init__()
        self.inner = _zeros(n_users, inner_size)

    def rows(self, projector, weight, features, ids, users):
        inner = projector[0](features) + self.inner(users)[:, None]  # [u, m, inner_size]
        return weight * projector[1:](inner) + ids  # [u, m, d]


def _zeros(n_users: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(n_users, size)
    nn.init.zeros_(embedding.weight)
    return embedding


def make_conditioning(
    personalised_by: str, num_groups: int, n_users: int, size: int, inner_size: int
) -> GroupVectors | UserConditioning | None:
    """The module that ``personalised_by`` needs beside PEFT modules and projectors, if any.

    Parameters
    ----------
    size, inner_size
        Width of an item's embedding, and of the projector's inner layer.
    """
    if personalised_by == GROUP_VECTOR:
        return GroupVectors(num_groups, size)
    if personalised_by == USER_VECTOR:
        return UserVectors(n_users, size)
    return UserProjectors(n_users, inner_size) if personalised_by == USER_PROJECTOR else None
