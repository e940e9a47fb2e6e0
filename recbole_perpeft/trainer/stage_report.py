"""What the log says about a stage: what is trained and how large it is, groups, pools."""

import numpy as np
from recbole.utils import set_color

PERSONALISED = {
    "group_peft": "one module per group",
    "group_projector": "one module for all, a projector per group",
    "group_vector": "one module for all, a vector per group",
    "user_projector": "one module for all, a vector per user in the projector",
    "user_vector": "one module for all, a vector per user",
}


def count(parameters) -> int:
    """Numbers in ``parameters``."""
    return sum(parameter.numel() for parameter in parameters)


def stage_report(number: int, start: int, end: int, model, config) -> str:
    """What stage ``number`` trains in epochs ``start`` to ``end - 1``, and its share of the foundation model."""
    tower, groups = model.item_tower, config["num_groups"]
    precision = str(tower.encoder.item_features.dtype).removeprefix("torch.")
    foundation = tower.encoder.foundation.num_parameters
    adapter = count(parameter for _, parameter in tower.encoder.adapter_parameters(0))
    projector = count(tower.projectors[0].parameters())
    modules, projectors = tower.encoder.num_groups, len(tower.projectors)  # one of each in use before stage 3
    bend = 0 if tower.content_term is None else count(tower.content_term.bend_parameters(0))
    shared = count(model.trainable_parameters()) - modules * (adapter + bend) - projectors * projector
    personal = PERSONALISED[config["personalised_by"]]
    names = {1: "global PEFT, one module for all users", 3: f"personalised PEFT, {personal}, {groups} groups"}
    if number == 1:
        modules = projectors = 1
    lines = [
        set_color(f"Stage {number} of 3", "pink") + f": {names[number]}, epochs {start} to {end - 1}",
        f"    foundation model {tower.encoder.foundation.name}: {foundation:,} parameters, frozen, in {precision}",
        f"    PEFT module ({str(config['peft_type']).upper()}, {tower.encoder.reach}): {adapter:,} parameters a group, "
        f"{adapter * modules:,} in all, {_share(adapter, foundation)} and {_share(adapter * modules, foundation)} of "
        "the foundation model",
        f"    projector: {projector:,} parameters a group, {projector * projectors:,} in all",
        *([f"    likeness: {bend:,} parameters a group, {bend * modules:,} in all"] if bend and number == 3 else []),
        f"    shared (backbone and item ids): {shared:,} parameters; l2_emb: {model.l2_emb:.3g}",
    ]
    return "\n".join(lines)


def grouping_report(method: str, sizes: list[int], pools: list[np.ndarray] | None) -> str:
    """Group sizes and, where there are negatives, the size of each group's pool of them."""
    lines = [set_color("Stage 2 of 3", "pink") + f": {sum(sizes)} users in {len(sizes)} groups by {method}"]
    for group, size in enumerate(sizes):
        negatives = "" if pools is None else f", negatives from {len(pools[group])} items"
        lines.append(f"    group {group}: {size} users{negatives}")
    return "\n".join(lines)


def small_groups_report(groups: np.ndarray, num_groups: int, too_small: dict[int, int]) -> list[str]:
    """A sentence for each kind of groups that are too small, with what was done.

    Parameters
    ----------
    groups
        Group of every user id, -1 for those who do not train, ``[n_users]``.
    too_small
        From :class:`~recbole_perpeft.data.negative_pools.NegativePools`.
    """
    sizes = np.bincount(groups[groups >= 0], minlength=num_groups)
    sentences = [
        f"Group {group} ({sizes[group]} users) bought {items} items, and one of its users bought all of them: "
        "the group's negatives come from all items."
        for group, items in too_small.items()
    ]
    if not sizes.all():
        empty = ", ".join(map(str, np.flatnonzero(sizes == 0)))
        sentences.append(
            f"No user is in group {empty}: there are too few users, or too few that differ, for num_groups: "
            f"{num_groups}. Its module stays the global one until users come to it."
        )
    return sentences


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3f} %" if whole else "none"
