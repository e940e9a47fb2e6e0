"""The sources by name. A new one is a file of this folder and an entry here."""

from recbole_perpeft.data.sources import amazon2023, fetching, mmrec, perpeft, sequences, table
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
