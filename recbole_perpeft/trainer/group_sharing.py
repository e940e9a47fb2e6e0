"""Groups that learn from one another: a module is a common part plus a part of its own (``group_sharing``)."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

from recbole_perpeft.model.item_embedding import MultimodalItemEmbedding


@contextmanager
def shared_step(
    tower: MultimodalItemEmbedding, groups: Collection[int], num_groups: int, share: float
) -> Iterator[None]:
    """Let all groups move by ``share`` of what the optimiser's step inside moves each of ``groups`` by.

    Then the module of a group is where it started, plus its own steps, plus ``share`` of the others': with a share of 0
    groups are apart (the paper's), with 1 all have one module, as in global PEFT. In between it is a common module
    that learns ``share`` of every step, with a module for each group on top that learns the rest from its own users.

    Parameters
    ----------
    tower
        The item tower, with a module for each group.
    groups
        Whose step it is.
    num_groups
        Number of groups.
    share
        From 0 to 1.
    """
    own = {group: [p.data for p in tower.group_parameters(group)] for group in groups} if share else {}
    if not any(own.values()):  # nothing to share, or groups without parameters of their own
        yield
        return
    before = {group: [values.clone() for values in parameters] for group, parameters in own.items()}
    yield
    moves = {group: torch._foreach_sub(parameters, before[group]) for group, parameters in own.items()}
    for other in range(num_groups):
        parameters = [parameter.data for parameter in tower.group_parameters(other)]
        for group, moved in moves.items():
            if group != other:
                torch._foreach_add_(parameters, moved, alpha=share)
