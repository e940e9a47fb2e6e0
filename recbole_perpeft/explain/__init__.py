"""What a trained model's groups look at, as a report that opens offline."""

from recbole_perpeft.utils import compat

compat.apply()  # before any module of this room imports RecBole's
