"""Settings: where they come from, which there are, and what is wrong with them."""

from recbole_perpeft.utils import compat

compat.apply()  # before any module of this room imports RecBole's

from recbole_perpeft.config.configurator import Config  # noqa: E402

__all__ = ["Config"]
