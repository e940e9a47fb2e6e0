"""The three stages, and what is kept of them."""

from typing import TYPE_CHECKING

from recbole_perpeft.utils import compat
from recbole_perpeft.utils.late_imports import late_imports

if TYPE_CHECKING:
    from recbole_perpeft.trainer.trainer import PerPEFTTrainer

compat.apply()  # before any module of this room imports RecBole's trainers

__all__ = ["PerPEFTTrainer"]
__getattr__ = late_imports(__name__, {"PerPEFTTrainer": "trainer"})  # which waits for transformers and peft
