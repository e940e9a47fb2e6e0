"""Errors that a user can mend: they name the setting or file, its value, and the cure."""

import difflib
from collections.abc import Iterable, Sequence


class PerPEFTError(ValueError):
    """Base of all errors that are the input's, not the program's; printed without a stack trace."""


class SettingError(PerPEFTError):
    """A setting has a name or value that cannot be used."""

    @classmethod
    def unknown(cls, what: str, name: object, known: Iterable[str]) -> "SettingError":
        """An error for a ``what`` called ``name`` that is none of ``known``; names the nearest."""
        known = sorted(str(item) for item in known)
        by_lower = {item.lower(): item for item in known}
        near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
        hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
        choices = f" Known: {', '.join(known)}." if len(known) <= 12 else ""
        return cls(f"Unknown {what} {name!r}.{hint}{choices}")


class DataError(PerPEFTError):
    """The data set cannot be used as it is."""


class CheckpointError(PerPEFTError):
    """A checkpoint cannot be read, or was made from other data, another encoder or other settings."""


class MisfitError(CheckpointError):
    """A checkpoint is whole, but of other data, another encoder or other settings."""


class TrainingError(PerPEFTError):
    """Training cannot go on."""


class ContentError(PerPEFTError):
    """Item content cannot be used or stored; the message names file or setting, value and cure."""


class EncoderError(PerPEFTError):
    """A foundation model or adapter setting cannot be used; the message names the setting and the cure."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text: libraries put the cause there and a manual page below it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest_name(name: str, known: Sequence[str]) -> str:
    """Return a sentence that names what ``name`` may have meant, or all that is known."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known are {', '.join(known)}."
