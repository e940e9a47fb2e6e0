"""File names for items' pictures: made from item ids, one for each, on any disk."""

import hashlib
import re

_SAFE = re.compile(r"[A-Za-z0-9._-]*")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)  # no names of files on Windows
_LONGEST = 120  # of the 255 bytes that disks allow


def stem_of(item_id: str) -> str:
    """The name without its ending: the id itself, where that is a safe name.

    Other characters than ASCII letters, digits, ``-``, ``_`` and ``.`` are written as in URLs, ``%2F`` for ``/``; so is
    the first of a name that is hidden or a device's. A name that would be too long is that of :func:`hashed_stem_of`.
    """
    stem = item_id if _SAFE.fullmatch(item_id) else "".join(map(_safe, item_id))
    if stem.startswith(".") or _DEVICES.match(stem):
        stem = _as_in_urls(stem[0]) + stem[1:]
    return stem if 0 < len(stem) <= _LONGEST else _hashed(stem, item_id)


def hashed_stem_of(item_id: str) -> str:
    """Another name, which differs from those of all other ids in more than capitals."""
    return _hashed(stem_of(item_id), item_id)


def _hashed(stem: str, item_id: str) -> str:
    if "~" in stem:  # which is no safe character: it is hashed already
        return stem
    return f"{stem[:_LONGEST]}~{hashlib.sha256(item_id.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _safe(mark: str) -> str:
    return mark if _SAFE.fullmatch(mark) else _as_in_urls(mark)


def _as_in_urls(mark: str) -> str:
    return "".join(f"%{byte:02X}" for byte in mark.encode("utf-8", "surrogatepass"))
