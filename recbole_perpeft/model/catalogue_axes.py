"""Which dimensions of a model's weights count users or items: asked of the model, not read from names or sizes."""

from torch import nn

from recbole_perpeft.data.more_ids import with_more_ids
from recbole_perpeft.model.conditioning import UserConditioning
from recbole_perpeft.utils.errors import MisfitError
from recbole_perpeft.utils.random_state import random_state_kept

USERS, ITEMS = "users", "items"
_MORE = {USERS: 3, ITEMS: 5}  # of which no sum or product is another one's


def catalogue_axes(model: nn.Module, config, dataset) -> dict[str, dict[int, str]]:
    """The dimensions of each tensor of a model's state that grow with the users or with the items.

    Of the backbone's own they are found by building it once more, for three users and five items more: what has grown
    by three counts users, what has grown by five items. So a hidden size that equals the number of items is no item.

    Parameters
    ----------
    model
        A PerPEFT model.
    config : recbole_perpeft.config.Config
        Its settings.
    dataset
        The training part that it was made with.

    Returns
    -------
    dict
        Key of the state to ``{dimension: "users" or "items"}``; keys without such a dimension are left out. Those of a
        grouping that was made are among them, whether the model holds one now or not.

    Raises
    ------
    MisfitError
        If a dimension grows in another way.
    """
    tower, rule = model.item_tower, model.group_rule
    axes = {
        "user_groups": {0: USERS},
        "group_losses": {0: USERS},
        "item_tower.id_embedding.weight": {0: ITEMS},
        f"group_rule.{rule.of_items}": {0: ITEMS},
    }
    if isinstance(tower.conditioning, UserConditioning):
        axes |= {f"item_tower.conditioning.{name}": {0: USERS} for name, _ in tower.conditioning.named_parameters()}
    present = model.state_dict()
    with random_state_kept():
        larger = type(model).backbone(config, _with_more(dataset)).state_dict()
    for key, value in larger.items():
        if key in present and key not in axes:
            grown = {
                dim: more - here for dim, (more, here) in enumerate(zip(value.shape, present[key].shape, strict=True))
            }
            found = {dim: kind for dim, by in grown.items() for kind, more in _MORE.items() if by == more}
            if len(found) < sum(by != 0 for by in grown.values()):
                raise MisfitError(f"{key} of {type(model).__name__} has rows that are neither users nor items")
            if found:
                axes[key] = axes[f"group_rule.{rule.name_of(key)}"] = found
    return axes


def _with_more(dataset):
    """``dataset`` with users and items that nobody knows, and no purchase more."""
    kinds = {dataset.uid_field: USERS, dataset.iid_field: ITEMS}
    return with_more_ids(
        dataset, {field: [f"[{kind} {number}]" for number in range(_MORE[kind])] for field, kind in kinds.items()}
    )
