"""Purchases and what each user had bought before them, as likeness is to predict them."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Purchases:
    """Purchases to predict, each of a user who had bought something.

    Attributes
    ----------
    histories : torch.LongTensor
        What was bought before each, oldest first, ``[n, length]``, padded with zeros at the end.
    targets : torch.LongTensor
        What was bought, ``[n]``.
    row_of : torch.LongTensor
        Whose purchase each is, ``[n]``, from 0.
    n_users : int
        How many users there are, those with one purchase included, of whom there is nothing to predict.
    """

    histories: torch.Tensor
    targets: torch.Tensor
    row_of: torch.Tensor
    n_users: int

    @classmethod
    def of(cls, histories: torch.Tensor) -> "Purchases":
        """All but the first of users' ``histories [n_users, length]``, oldest first, padded with zeros at the end."""
        row_of, before = (histories[:, 1:] > 0).nonzero(as_tuple=True)  # [n]
        within = torch.arange(histories.shape[1], device=histories.device) <= before[:, None]  # [n, length]
        longest = int(before.max()) + 1 if len(before) else 1
        kept = (histories[row_of] * within)[:, :longest]
        return cls(kept, histories[row_of, before + 1], row_of, len(histories))

    def __getitem__(self, rows: torch.Tensor | slice) -> "Purchases":
        return Purchases(self.histories[rows], self.targets[rows], self.row_of[rows], self.n_users)

    def __len__(self) -> int:
        return len(self.targets)

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """The sums of the purchases' ``values [n, k]`` over each user's, ``[n_users, k]``."""
        sums = torch.zeros(self.n_users, values.shape[1], dtype=values.dtype)  # on the CPU: a GPU's sums vary
        return sums.index_add_(0, self.row_of.cpu(), values.cpu()).to(values.device)
