"""RecBole's recommenders with the item tower."""

from typing import TYPE_CHECKING

from recbole_perpeft.utils import compat
from recbole_perpeft.utils.late_imports import late_imports

if TYPE_CHECKING:
    from recbole_perpeft.model.perpeft import PerPEFTMixin

compat.apply()  # before any module of this room imports RecBole's models

__all__ = ["PerPEFTMixin"]
__getattr__ = late_imports(__name__, {"PerPEFTMixin": "perpeft"})  # which waits for transformers and peft
