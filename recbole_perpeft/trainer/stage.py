"""The stages that train; the second, between them, groups the users."""

from enum import StrEnum


class Stage(StrEnum):
    """Which modules train: one for all users, or one for each group."""

    GLOBAL = "global"
    PERSONALISED = "personalised"

    @property
    def number(self) -> int:
        """As the paper counts them."""
        return 1 if self is Stage.GLOBAL else 3
