"""Groups that learn from one another: a module is a common part plus a part of its own (``group_sharing``)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recbole_perpeft.item_tower import MultimodalItemEmbedding


@contextmanager
def shared_step(tower: MultimodalItemEmbedding, group: int, num_groups: int, share: float) -> Iterator[None]:
    """Let all groups move by ``share`` of what the optimiser's step inside moves ``group``'s module and projector by.

    Then the module of a group is where it started, plus its own steps, plus ``share`` of the others': with a share of 0
    groups are apart (the paper's), with 1 all have one module, as in global PEFT. In between it is a common module
    that learns ``share`` of every step, with a module for each group on top that learns the rest from its own users.

    Parameters
    ----------
    tower
        The item tower, with a module for each group.
    group
        Whose step it is.
    num_groups
        Number of groups.
    share
        From 0 to 1.
    """
    own = [parameter.data for parameter in tower.group_parameters(group)] if share else []
    if not own:
        yield
        return
    before = [values.clone() for values in own]
    yield
    moved = torch._foreach_sub(own, before)
    for other in range(num_groups):
        if other != group:
            torch._foreach_add_([parameter.data for parameter in tower.group_parameters(other)], moved, alpha=share)
