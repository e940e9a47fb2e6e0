"""Rankings and what is measured of them."""

from recbole_perpeft.utils import compat

compat.apply()
