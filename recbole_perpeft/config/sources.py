"""Which build of this package runs: a hash of its sources, for a version number stays the same over many changes."""

import hashlib
from functools import cache
from pathlib import Path

from recbole_perpeft.config.settings import PROPERTIES

_PACKAGE = Path(__file__).parent.parent


@cache
def sources_hash() -> str:
    """A hash over names and bytes of the package's ``.py`` files and of the ``.yaml`` files with its defaults."""
    files = {f"recbole_perpeft/{file.relative_to(_PACKAGE).as_posix()}": file for file in _PACKAGE.rglob("*.py")}
    files |= {f"properties/{file.relative_to(PROPERTIES).as_posix()}": file for file in PROPERTIES.rglob("*.yaml")}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        content = file.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
