"""The error that every part of the encoder raises for a setting or a file that cannot be used."""

from recbole_perpeft.errors import PerPEFTError


class EncoderError(PerPEFTError):
    """A foundation model or adapter setting cannot be used; the message names the setting and the cure."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text: libraries put the cause there and a manual page below it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
