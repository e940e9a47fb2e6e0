"""What was trained, put to use: lists for users, known and new, and bundles."""

from recbole_perpeft.utils import compat

compat.apply()  # before any module of this room imports RecBole's
