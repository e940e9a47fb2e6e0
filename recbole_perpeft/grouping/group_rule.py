"""What a way of grouping users is: it makes groups (``fit``), and finds the group of a user (``assign``)."""

from abc import abstractmethod

import numpy as np
import torch
from torch import nn


class GroupRule(nn.Module):
    """A way of grouping users.

    Parameters
    ----------
    num_groups
        Number of groups.
    seed
        Decides what is left to chance.

    Attributes
    ----------
    of_items : str or None
        The buffer with a row for each item, where there is one. Zeros in a row mean that the item came after the groups
        were made.
    """

    of_items: str | None = None

    def __init__(self, num_groups: int, seed: int):
        super().__init__()
        self.num_groups, self.seed = num_groups, seed

    @staticmethod
    def name_of(parameter: str) -> str:
        """The buffer that holds a parameter of the backbone as it was when groups were made, of rules that keep any."""
        return "backbone/" + parameter.replace(".", "/")  # names of buffers have no dots

    def known(self, histories: torch.Tensor) -> torch.Tensor:
        """``histories [n, length]``, padded with zeros at the end, without items that came after the groups."""
        rows = self._buffers.get(self.of_items)
        if rows is None:
            return histories
        kept = histories * rows.any(dim=1)[histories]
        return kept.gather(1, (kept == 0).int().argsort(dim=1, stable=True))

    @abstractmethod
    def fit(self, model: nn.Module, sequences: dict[int, np.ndarray]) -> np.ndarray:
        """Make groups of the users who train, and keep what :meth:`assign` needs.

        Parameters
        ----------
        model
            A PerPEFT model at the end of stage 1, with the catalogue of its global module in use.
        sequences
            User id to training purchases, oldest first.

        Returns
        -------
        numpy.ndarray
            Group of each user, ``[n]``, in the order of ``sequences``. A group may be empty.
        """

    @abstractmethod
    def assign(self, model: nn.Module, users: torch.Tensor, histories: torch.Tensor) -> torch.Tensor:
        """The group of each of some users, by the rule of the groups that were made.

        Parameters
        ----------
        model
            The PerPEFT model, as it is now.
        users
            User ids ``[n]``.
        histories
            Their purchases, oldest first, ``[n, length]``, padded with zeros at the end; nobody's is empty.

        Returns
        -------
        torch.LongTensor
            ``[n]``; -1 where there is nothing to go by.
        """

    def _keep(self, **values: np.ndarray | torch.Tensor) -> None:
        for name, value in values.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32))

    def shape_as(self, state: dict[str, torch.Tensor]) -> None:
        """Have the buffers that ``state`` has, of any content: none, of a model whose users were not grouped yet."""
        self._buffers.clear()
        for name, value in state.items():
            self.register_buffer(name, torch.empty_like(value))
