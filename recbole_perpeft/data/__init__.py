"""From RecBole's atomic files to batches."""

from recbole_perpeft.data.preparation import create_dataset, data_preparation

__all__ = ["create_dataset", "data_preparation"]
