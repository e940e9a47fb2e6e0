"""Groups that learn from one another's steps, as far as what they learn holds for all."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recbole_perpeft.model.item_embedding import MultimodalItemEmbedding
from recbole_perpeft.trainer.weight_average import WeightAverage


def draw_together(
    tower: MultimodalItemEmbedding, sizes: torch.Tensor, share: float, average: WeightAverage | None
) -> None:
    """Take ``share`` of what sets groups' modules and projectors apart off them, and off their average.

    Parameters
    ----------
    sizes
        Users of each group, by which groups count in what is common, ``[num_groups]``.
    tower, share, average
        As of :func:`shared_steps`.
    """
    of_groups = [tower.rows_parameters(group) for group in range(len(sizes))]
    values = [[[parameter.data for parameter in own] for own in of_groups]]
    if average:
        values.append([average.of(own) for own in of_groups])
    weights = (sizes / sizes.sum()).tolist()
    for of_each in values:
        for same in zip(*of_each, strict=True):  # of all groups
            common = sum(weight * value for weight, value in zip(weights, same, strict=True))
            torch._foreach_lerp_(list(same), [common] * len(same), share)


@contextmanager
def shared_steps(
    tower: MultimodalItemEmbedding, group: int, num_groups: int, share: float, average: WeightAverage | None
) -> Iterator[None]:
    """Move all other groups by ``share`` of what the steps inside move ``group``'s module and projector by.

    The module of a group is then where it started, plus its own steps, plus that share of the others': with 0 groups
    learn apart, with 1 as one.

    Parameters
    ----------
    tower
        The item tower, with a module for each group.
    group
        Whose steps they are, of ``num_groups``.
    share
        From 0 to 1.
    average
        Of the weights, if one is kept.
    """
    own = [parameter.data for parameter in tower.rows_parameters(group)] if share else []
    before = [values.clone() for values in own]
    yield
    if not own:
        return
    moved = torch._foreach_sub(own, before)
    others = [tower.rows_parameters(other) for other in range(num_groups) if other != group]
    if average:
        average.before_change([parameter for of_one in others for parameter in of_one])
    for of_one in others:
        torch._foreach_add_([parameter.data for parameter in of_one], moved, alpha=share)
