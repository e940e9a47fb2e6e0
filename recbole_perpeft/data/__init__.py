"""From RecBole's atomic files to batches."""

from recbole_perpeft.data.preparation import create_dataset, data_preparation
from recbole_perpeft.utils import compat

compat.apply()

__all__ = ["create_dataset", "data_preparation"]
