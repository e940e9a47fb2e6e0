"""What compare and tune share: rows, runs beside one another, tables."""

from recbole_perpeft.utils import compat

compat.apply()
