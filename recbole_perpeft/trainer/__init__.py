"""The three stages, and what is kept of them."""

from recbole_perpeft.utils import compat

compat.apply()  # before any module of this room imports RecBole's trainers

from recbole_perpeft.trainer.trainer import PerPEFTTrainer  # noqa: E402

__all__ = ["PerPEFTTrainer"]
