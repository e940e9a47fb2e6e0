"""Settings: where they come from, which there are, and what is wrong with them."""

from recbole_perpeft.config.configurator import Config
from recbole_perpeft.utils import compat

compat.apply()

__all__ = ["Config"]
