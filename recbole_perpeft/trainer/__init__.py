"""The three stages, and what is kept of them."""

from recbole_perpeft.trainer.trainer import PerPEFTTrainer

__all__ = ["PerPEFTTrainer"]
