"""Stages of a preparation that are done, so that one that was killed goes on from them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from logging import getLogger
from pathlib import Path

from recbole_perpeft.config.sources import sources_hash
from recbole_perpeft.data.sources.atomic import whole_file

_NOTED = ".prepared.json"


class Stages:
    """What is done in a data set's folder, as noted there.

    A stage stays done as long as its source has the size and the time that it had, its options and the package's
    sources are the same, the files that it wrote are as it left them, and so is all that was done before it.

    Parameters
    ----------
    folder
        The data set's folder.
    """

    def __init__(self, folder: Path):
        self._file = folder / _NOTED
        self._noted: dict = {}
        with suppress(OSError, ValueError):  # there is none, or it is no such file: all is done anew
            found = json.loads(self._file.read_text(encoding="utf-8"))
            self._noted = found if isinstance(found, dict) else {}
        self._before = sources_hash()

    def do(
        self,
        stage: str,
        source: Path,
        options: Mapping[str, object],
        files: Sequence[Path],
        make: Callable[[], dict[str, object]],
    ) -> dict[str, object]:
        """Do a stage, or find that it is done; gives what ``make`` gave.

        Parameters
        ----------
        stage
            Its name.
        source
            The file that it reads.
        options
            What else its result depends on.
        files
            What it writes.
        make
            Does it; gives what is to be known of it later, as JSON can hold it.
        """
        identity = [self._before, str(source.resolve()), _state(source), dict(options)]
        noted = self._noted.get(stage)
        if noted and [noted.get(key) for key in ("of", "files")] == [identity, list(map(_state, files))]:
            written = ", ".join(map(str, files))
            getLogger().info(f"Done before, of the same {source} and with the same options, and kept: {written}")
        else:
            noted = {"of": identity, "told": make(), "files": list(map(_state, files))}
            self._noted[stage] = noted
            with whole_file(self._file) as file:
                json.dump(self._noted, file)
        self._before = hashlib.sha256(json.dumps([identity, noted["files"]]).encode()).hexdigest()
        return noted["told"]


def _state(file: Path) -> list[int] | None:
    """Size and time of a file, None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
