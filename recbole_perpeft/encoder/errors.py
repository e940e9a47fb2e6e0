"""The error that every part of the encoder raises for a setting or a file that cannot be used."""

import difflib
from collections.abc import Sequence

from recbole_perpeft.errors import PerPEFTError


class EncoderError(PerPEFTError):
    """A foundation model or adapter setting cannot be used; the message names the setting and the cure."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text: libraries put the cause there and a manual page below it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest_name(name: str, known: Sequence[str]) -> str:
    """Return a sentence that names what ``name`` may have meant, or all that is known."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known are {', '.join(known)}."
