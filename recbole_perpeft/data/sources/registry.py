"""The sources by name. A new one is a file of this folder and an entry here."""

import argparse
from pathlib import Path

from recbole_perpeft.data.sources import amazon2023, fetching, mmrec, perpeft, sequences, table
from recbole_perpeft.data.sources.one_writer import only_writer
from recbole_perpeft.data.sources.source import Source

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        amazon2023.SOURCE,
        perpeft.SOURCE,
        mmrec.SOURCE,
        sequences.SOURCE,
        table.SOURCE,
        fetching.SOURCE,
    )
}


def prepare(options: argparse.Namespace) -> Path:
    """Write the data set of ``options.source``, one process at a time; gives its file of settings.

    Raises
    ------
    DataError
        If the input is not as it should be, or another process writes the data set's folder.
    SettingError
        If options do not go together.
    """
    source = SOURCES[options.source]
    with only_writer(source.folder(options)) as folder:
        return source.prepare(options, folder)
