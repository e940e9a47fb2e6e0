"""Tables in CSV, TSV and Parquet files, as pandas has them."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_perpeft.utils.errors import DataError, first_line, nearest_name

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
_PARQUET = (".parquet", ".pq")


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a table as text (of a Parquet file as they are); what is missing is the empty text, or None.

    The kind of file is told by its name, in which ``.gz`` may follow.

    Raises
    ------
    DataError
        If it cannot be read, or lacks a column; the message names the nearest.
    """
    kind = next((suffix for suffix in map(str.lower, path.suffixes[::-1]) if suffix != ".gz"), "")
    if kind not in _SEPARATORS and kind not in _PARQUET:
        raise DataError(f"{path} is none of {', '.join([*_SEPARATORS, *_PARQUET])}: its name has to tell what it is.")
    try:
        table = _parquet(path, columns) if kind in _PARQUET else _text(path, _SEPARATORS[kind])
    except (OSError, EOFError, ValueError, ArithmeticError, pd.errors.ParserWarning) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {first_line(error)}.") from error
    for column in columns:
        if column not in table:
            raise DataError(f"{path} has no column {column!r}.{nearest_name(column, table)}")
    return table[list(columns)]


def _text(path: Path, separator: str) -> pd.DataFrame:
    """All columns: where only some are asked for, pandas passes over rows of too many values."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # which is of such rows, too
        return pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig"
        )  # fmt: skip


def _parquet(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet files are read by pyarrow, which is not installed: "
            'pip install "recbole-perpeft[parquet]".'
        ) from error
    present = parquet.ParquetFile(path).schema_arrow.names
    known = [column for column in columns if column in present]
    return parquet.read_table(path, columns=known or present).to_pandas()


def texts(column: pd.Series) -> list[str]:
    """Values as text: whole numbers without a point, what is missing as the empty text."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]


def numbers(path: Path, column: pd.Series, what: str) -> np.ndarray:
    """Values as numbers, float64 ``[n]``.

    Raises
    ------
    DataError
        Names the first line that has none.
    """
    found = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    _refuse(path, column, np.isfinite(found), f"{what} is to be a number")
    return found


def seconds(path: Path, column: pd.Series) -> np.ndarray:
    """Times ``[n]``: numbers as they are, dates as seconds since 1970, by UTC where they name no zone.

    Raises
    ------
    DataError
        Names the first line that has neither.
    """
    if not pd.api.types.is_datetime64_any_dtype(column):
        found = pd.to_numeric(column, errors="coerce")
        if found.notna().sum() > len(found) / 2:
            return numbers(path, column, "--time")
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    if dates.isna().any():
        dates = pd.to_datetime(column, errors="coerce", utc=True, format="mixed")
    _refuse(path, column, dates.notna().to_numpy(), "--time is to be a number or a date")
    whole = dates.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    return whole // 1_000_000 if not (whole % 1_000_000).any() else whole / 1e6


def _refuse(path: Path, column: pd.Series, good: np.ndarray, rule: str) -> None:
    if not good.all():
        row = int((~good).argmax())
        raise DataError(
            f"{path}, row {row + 1} below the header: {rule}, {column.name} is {column.iloc[row]!r}, as in "
            f"{int((~good).sum()):,} of {len(good):,} rows. Correct them, or leave them out."
        )
