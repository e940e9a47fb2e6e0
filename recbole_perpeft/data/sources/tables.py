"""Tables in CSV, TSV and Parquet files, as pandas has them."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_perpeft.utils.errors import DataError, first_line, nearest_name

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
_PARQUET = (".parquet", ".pq")
_TWO_NUMBERS = r"^\s*(\d{1,2})[./-](\d{1,2})[./-]\d"  # as dates begin that have no year in front
_MONTHS, _LARGEST = 12, 2**63


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
    # else whole numbers in a column that lacks some become floats, in which long ids lose their last digits
    return parquet.read_table(path, columns=known or present).to_pandas(integer_object_nulls=True)


def texts(column: pd.Series) -> list[str]:
    """Values as text: whole numbers without a point, what is missing as the empty text."""
    if pd.api.types.is_float_dtype(column):
        known = column.dropna()
        if ((known % 1 == 0) & (known.abs() < _LARGEST)).all():
            column = column.astype("Int64")
    return ["" if missing else _text_of(value) for value, missing in zip(column, column.isna(), strict=True)]


def _text_of(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


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

    Whether 02/01/2023 is in January or February is told by other dates of the column, such as 13/01/2023.

    Raises
    ------
    DataError
        Names the first line that has neither, or a date that could be of two days.
    """
    if not pd.api.types.is_datetime64_any_dtype(column):
        found = pd.to_numeric(column, errors="coerce")
        if found.notna().sum() > len(found) / 2:
            return numbers(path, column, "--time")
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    if dates.isna().any():
        dates = pd.to_datetime(
            column, errors="coerce", utc=True, format="mixed", dayfirst=_begin_with_days(path, column)
        )
    _refuse(path, column, dates.notna().to_numpy(), "--time is to be a number or a date")
    whole = dates.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    return whole // 1_000_000 if not (whole % 1_000_000).any() else whole / 1e6


def _begin_with_days(path: Path, column: pd.Series) -> bool:
    """Whether dates as 13/01/2023 have the day first: one whose day is above 12 says so for all."""
    found = column.astype(str).str.extract(_TWO_NUMBERS).astype("float64")  # [n, 2]
    days_first, months_first = (found > _MONTHS).any()
    unlike = found.notna().all(axis=1) & (found[0] != found[1])
    if unlike.any() and days_first == months_first:
        row = int(unlike.to_numpy().argmax())
        why = "others have the day first, and others the month" if days_first else "no other date tells which"
        raise DataError(
            f"{path}, row {row + 1} below the header: --time: {column.name} is {column.iloc[row]!r}, which could be of "
            f"two days, and {why}. Write dates as 2023-01-31."
        )
    return bool(days_first)


def _refuse(path: Path, column: pd.Series, good: np.ndarray, rule: str) -> None:
    if not good.all():
        row = int((~good).argmax())
        raise DataError(
            f"{path}, row {row + 1} below the header: {rule}, {column.name} is {column.iloc[row]!r}, as in "
            f"{int((~good).sum()):,} of {len(good):,} rows. Correct them, or leave them out."
        )
