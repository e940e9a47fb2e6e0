"""Lists in a file, written block by block: CSV or Parquet."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from recbole_perpeft.utils.errors import RequestError
from recbole_perpeft.utils.files import replacing


def check_list_file(file: str | Path) -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Raises
    ------
    RequestError
        If its name ends in neither ``.csv`` nor ``.parquet``, its folder is not there, or pyarrow is missing.
    """
    file = Path(file)
    if file.suffix not in _WRITERS:
        raise RequestError(f"{file} is no name of a list file: end it in {' or '.join(_WRITERS)}.")
    if not file.absolute().parent.is_dir():
        raise RequestError(f"{file} cannot be written: the folder {file.absolute().parent} does not exist.")
    if file.suffix == ".parquet":
        _pyarrow()


def write_lists(blocks: Iterable[pd.DataFrame], file: str | Path) -> int:
    """Write ``blocks``, one below the other; gives the number of rows.

    Only a block at a time is in memory. A reader sees the old file or the new one, never a part.

    Parameters
    ----------
    blocks
        Tables with the same columns.
    file
        Its ending says how: ``.csv`` or ``.parquet``.

    Raises
    ------
    RequestError
        As :func:`check_list_file`, or if writing fails, as on a full disk.
    """
    check_list_file(file)
    file, rows = Path(file), 0
    try:
        with replacing(file) as temporary, _WRITERS[file.suffix](temporary) as write:
            for block in blocks:
                write(block)
                rows += len(block)
    except OSError as error:
        raise RequestError(f"{file} cannot be written: {error}. What was there before is whole.") from error
    return rows


@contextmanager
def _csv(file: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    with open(file, "w", encoding="utf-8", newline="") as handle:
        yield lambda block: block.to_csv(handle, index=False, header=not handle.tell())


@contextmanager
def _parquet(file: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    pyarrow, parquet = _pyarrow()
    writer = None

    def write(block: pd.DataFrame) -> None:
        nonlocal writer
        table = pyarrow.Table.from_pandas(block, preserve_index=False)
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


def _pyarrow() -> tuple:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise RequestError('Parquet needs pyarrow: pip install "recbole-perpeft[parquet]", or write a .csv.') from error
    return pyarrow, parquet


_WRITERS = {".csv": _csv, ".parquet": _parquet}
