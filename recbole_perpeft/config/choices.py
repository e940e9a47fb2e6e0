"""Values of settings that more than one room knows, and where the registries of the others are."""

from importlib import import_module
from typing import Any

GROUP_PEFT, GROUP_PROJECTOR, GROUP_VECTOR = "group_peft", "group_projector", "group_vector"
USER_PROJECTOR, USER_VECTOR = "user_projector", "user_vector"
BY_USER = USER_PROJECTOR, USER_VECTOR
PERSONALISED_BY = (GROUP_PEFT, GROUP_PROJECTOR, GROUP_VECTOR, USER_PROJECTOR, USER_VECTOR)

RAW, CENTRED, WHITENED = "raw", "centred", "whitened"
FEATURE_FORMS = (RAW, CENTRED, WHITENED)

# kinds of negatives: of all rows together, one beside each row, or rows of their own with labels
SHARED, PAIRS, LABELS = "shared", "pairs", "labels"

# by name, for what is registered is built on top of this room
_REGISTRIES = {
    "grouping": ("recbole_perpeft.grouping.methods", "GROUPINGS"),
    "loss_type": ("recbole_perpeft.model.loss", "LOSSES"),
    "peft_type": ("recbole_perpeft.encoder.factory", "ENCODERS"),
}


def registered(key: str) -> dict[str, Any]:
    """The values of setting ``key`` that have an entry in its registry, and these entries."""
    module, registry = _REGISTRIES[key]
    return getattr(import_module(module), registry)


def may_follow(config) -> bool:
    """Whether users may follow the modules of their groups: not where all move at once, or groups are by chance."""
    return not config["regroup_epochs"] and config["grouping"] != "random"


def encoder_reads(config, key: str) -> bool:
    """Whether the item encoder that ``peft_type`` names reads the setting ``key``."""
    encoder = registered("peft_type").get(str(config["peft_type"] or "NONE").upper())
    return encoder is None or key in encoder.reads  # None: a method of peft that is refused, or was registered late
