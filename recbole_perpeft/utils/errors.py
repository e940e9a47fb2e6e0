"""Errors that a user can mend: they name the setting or file, its value, and the cure."""

import difflib
from collections.abc import Iterable


class PerPEFTError(ValueError):
    """Base of all errors that are the input's, not the program's; printed without a stack trace."""


class SettingError(PerPEFTError):
    """A setting has a name or value that cannot be used."""

    @classmethod
    def unknown(cls, what: str, name: object, known: Iterable[str]) -> "SettingError":
        """An error for a ``what`` called ``name`` that is none of ``known``; names the nearest."""
        return cls(f"Unknown {what} {name!r}.{nearest_name(name, known)}")


class DataError(PerPEFTError):
    """The data set cannot be used as it is."""


class CheckpointError(PerPEFTError):
    """A checkpoint cannot be read, or was made from other data, another encoder or other settings."""


class MisfitError(CheckpointError):
    """A checkpoint is whole, but of other data, another encoder or other settings."""


class BundleError(PerPEFTError):
    """A bundle cannot be written or opened; the message names the file and the cure."""


class RequestError(PerPEFTError):
    """Items cannot be recommended as asked: a user, item, column or number of items is not there."""


class TrainingError(PerPEFTError):
    """Training cannot go on."""


class ProcessError(TrainingError):
    """One of several processes that train together has ended, or cannot be reached."""


class ContentError(PerPEFTError):
    """Item content cannot be used or stored; the message names file or setting, value and cure."""


class EncoderError(PerPEFTError):
    """A foundation model or adapter setting cannot be used; the message names the setting and the cure."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text: libraries put the cause there and a manual page below it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest_name(name: object, known: Iterable[str]) -> str:
    """Return sentences, each after a space: what ``name`` may have meant, and all that is known if that is not much."""
    known = sorted(str(item) for item in known)
    by_lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    return hint + (f" Known: {', '.join(known)}." if len(known) <= 12 or not near else "")
