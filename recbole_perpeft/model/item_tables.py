"""A backbone's item tables as columns of one item tower."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from recbole_perpeft.utils.errors import SettingError


class ItemTable(nn.Module):
    """Some columns of the item tower's table; stands in the place of one of the backbone's ``nn.Embedding``.

    Parameters
    ----------
    tower
        The model's :class:`~recbole_perpeft.model.item_embedding.MultimodalItemEmbedding`, of which this is no owner.
    columns
        First column and the one after the last.
    """

    def __init__(self, tower: nn.Module, columns: tuple[int, int]):
        super().__init__()
        self._tower, self.columns = (tower,), columns  # in a tuple, or it would count as a submodule

    @property
    def num_embeddings(self) -> int:
        """Rows of the catalogue, padding included."""
        return self._tower[0].num_embeddings

    @property
    def embedding_dim(self) -> int:
        """Width of an item's embedding."""
        return self.columns[1] - self.columns[0]

    @property
    def weight(self) -> torch.Tensor:
        """The columns of the table in use, ``[rows, embedding_dim]``."""
        weight = self._tower[0].weight
        return weight if self.embedding_dim == weight.shape[1] else weight[:, slice(*self.columns)]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows ``ids [...]``, ``[..., embedding_dim]``."""
        return F.embedding(ids, self.weight)


def item_tables(model: nn.Module, names: Sequence[str] = ()) -> dict[str, nn.Embedding]:
    """The backbone's embeddings that have a row for each item, by name.

    Parameters
    ----------
    model
        The backbone, with its own tables.
    names
        What they are called; by default those with as many rows as items (or one more, for a mask token) that are named
        after items, or one number wide. Of a backbone that has none of these, all with so many rows that are not named
        after users: positions, prototypes and users can be as many as items by chance.

    Raises
    ------
    SettingError
        If there is none.
    """
    sizes = (model.n_items, model.n_items + 1)
    tables = {name: module for name, module in model.named_children() if isinstance(module, nn.Embedding)}
    if names:
        found = {name: module for name, module in tables.items() if name in names}
    else:
        sized = {
            name: module
            for name, module in tables.items()
            if module.num_embeddings in sizes and not name.startswith("user")
        }
        found = {n: module for n, module in sized.items() if "item" in n or module.embedding_dim == 1} or sized
    if not found:
        raise SettingError(
            f"model: {type(model).__name__} cannot be built: its backbone has no item table, in whose place pictures "
            "and titles could come. Choose another backbone."
        )
    return found


def merge(tables: dict[str, nn.Embedding]) -> tuple[nn.Embedding, dict[str, tuple[int, int]], int]:
    """All tables side by side.

    Returns
    -------
    tuple
        One table, the columns of each by name, and how many of them, the last, are biases: tables of width 1, to which
        content adds nothing. A single table is returned as it is.
    """
    ordered = sorted(tables.items(), key=lambda entry: entry[1].embedding_dim == 1)
    columns, width = {}, 0
    for name, table in ordered:
        columns[name] = (width, width + table.embedding_dim)
        width += table.embedding_dim
    biases = sum(table.embedding_dim == 1 for table in tables.values())
    if len(tables) == 1:
        return ordered[0][1], columns, biases
    weights = torch.cat([table.weight.detach() for _, table in ordered], dim=1)  # [rows, width]
    return nn.Embedding.from_pretrained(weights, freeze=False, padding_idx=0), columns, biases
