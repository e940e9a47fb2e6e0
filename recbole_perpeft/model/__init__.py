"""RecBole's recommenders with the item tower."""

from recbole_perpeft.model.perpeft import PerPEFTMixin

__all__ = ["PerPEFTMixin"]
