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
