"""RecBole recommenders that see item pictures and titles, through one PEFT module per user group (PerPEFT)."""

from recbole_perpeft.utils import compat

compat.apply()

__version__ = "0.1.0"
