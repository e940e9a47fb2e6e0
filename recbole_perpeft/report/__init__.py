"""What a run says of itself."""

from recbole_perpeft.utils import compat

compat.apply()
