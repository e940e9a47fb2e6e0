"""Settings: where they come from, which there are, and what is wrong with them."""

from recbole_perpeft.config.configurator import Config

__all__ = ["Config"]
