"""The error of item content."""

from recbole_perpeft.errors import PerPEFTError


class ContentError(PerPEFTError):
    """Item content cannot be used or stored; the message names file or setting, value and cure."""
