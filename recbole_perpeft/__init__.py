"""RecBole recommenders that see item pictures and titles, through one PEFT module per user group (PerPEFT)."""

__version__ = "0.1.0"
