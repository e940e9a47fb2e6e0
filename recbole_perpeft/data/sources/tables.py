"""Tables in CSV, TSV and Parquet files, as pandas has them."""

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from recbole_perpeft.utils.errors import DataError, first_line, nearest_name

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
_PARQUET = (".parquet", ".pq")
_TWO_NUMBERS = r"^\s*(\d{1,2})[./-](\d{1,2})[./-]\d"  # as dates begin that have no year in front
_DATE_OF_DIGITS = r"\s*(\d{4}|\d{8})\s*"  # 2023, 20230131
_MONTHS, _LARGEST = 12, 2**63
_READ = 1 << 20  # bytes of a file at a time
_QUOTED = r'"(?:[^"]|"")*"'


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a table as text (of a Parquet file as they are); what is missing is the empty text, or None.

    The kind of file is told by its name, in which ``.gz`` may follow.

    Raises
    ------
    DataError
        If it cannot be read, names the line where a text has no end; or if it lacks a column, names the nearest; or
        if it has one of them twice.
    """
    kind = next((suffix for suffix in map(str.lower, path.suffixes[::-1]) if suffix != ".gz"), "")
    if kind not in _SEPARATORS and kind not in _PARQUET:
        raise DataError(f"{path} is none of {', '.join([*_SEPARATORS, *_PARQUET])}: its name has to tell what it is.")
    try:
        table = _parquet(path, columns) if kind in _PARQUET else _text(path, columns, _SEPARATORS[kind])
    except (OSError, EOFError, ValueError, ArithmeticError, csv.Error, zlib.error, pd.errors.ParserWarning) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {first_line(error)}.") from error
    for column in columns:
        if column not in table:
            raise DataError(f"{path} has no column {column!r}.{_other_separator(table) or nearest_name(column, table)}")
    return table[list(columns)]


def _text(path: Path, columns: Sequence[str], separator: str) -> pd.DataFrame:
    """All columns: where only some are asked for, pandas passes over rows of too many values."""
    quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    _check_bytes(path)
    _refuse_twice(path, _header(path, separator), columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # which is of such rows, too
        try:
            table = pd.read_csv(
                path, sep=separator, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig",
                quoting=quoting,
            )  # fmt: skip
        except pd.errors.ParserError as error:
            if "EOF inside string" in str(error):
                raise DataError(
                    f"{path}, line {_last_row(path)}: a quotation mark opens a text that has no end. Write a quotation "
                    'mark of a text as two, in a text that is in quotation marks: "a 12"" disc".'
                ) from error
            raise
    return _without_quotes(path, table) if separator == "\t" else table


def _check_bytes(path: Path) -> None:
    """Refuse NUL, at which pandas cuts a value without a word; UTF-16 is full of them.

    Raises
    ------
    DataError
        Names the line of the first.
    """
    line = 1
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        while block := file.read(_READ):
            if (at := block.find(b"\0")) >= 0:
                line += block.count(b"\n", 0, at)
                raise DataError(
                    f"{path}, line {line}: there is a NUL, a byte that is no part of a text. Write the file anew in "
                    "UTF-8, without them."
                )
            line += block.count(b"\n")


def _header(path: Path, separator: str) -> list[str]:
    """Names of columns as they stand there; pandas gives those that come twice another name."""
    with _opened(path) as file:
        if separator == "\t":
            return [_unquoted(name) for name in file.readline().rstrip("\r\n").split(separator)]
        return next(csv.reader(file), [])


def _refuse_twice(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if names.count(column) > 1:
            raise DataError(f"{path} has {names.count(column)} columns {column!r}: rename all but one of them.")


def _other_separator(table: pd.DataFrame) -> str:
    """A sentence, after a space, where the only column's name looks like several; else nothing."""
    name = str(table.columns[0])
    mark = next((mark for mark in ";\t,|" if mark in name), None)
    if len(table.columns) > 1 or mark is None:
        return ""
    return f" Its header is {name!r}, in which {mark!r} seems to separate columns: write commas, in a TSV file tabs."


def _last_row(path: Path) -> int:
    """The line in which the last row of a CSV file begins."""
    begins = ends = 0
    with _opened(path) as file:
        rows = csv.reader(file)
        for _ in rows:
            begins, ends = ends + 1, rows.line_num
    return begins


def _opened(path: Path) -> TextIO:
    return (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="")


def _without_quotes(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Texts of a TSV file, which some programs write in quotation marks. Others write a quotation mark as it is.

    Raises
    ------
    DataError
        Names the line where such a text goes on in the next.
    """
    some_open = False
    for column in table:
        texts = table[column]
        begun = texts.str.startswith('"', na=False)
        if begun.any():
            some_open |= not texts[begun].str.fullmatch(_QUOTED).all()
            table[column] = texts.where(~begun, texts.map(_unquoted, na_action="ignore"))
    if some_open:
        _refuse_more_lines(path)
    return table.rename(columns=_unquoted)


def _refuse_more_lines(path: Path) -> None:
    """A text in quotation marks that has line breaks, and so is in rows of too few values."""
    with _opened(path) as file:
        n_columns, open_line = len(next(file).split("\t")), 0
        for number, line in enumerate(file, 2):
            values = line.rstrip("\r\n").split("\t")
            is_open = any(value.startswith('"') and not re.fullmatch(_QUOTED, value) for value in values)
            if len(values) < n_columns and line.strip() and (is_open or open_line == number - 1):
                raise DataError(
                    f"{path}, line {number if is_open else open_line}: a text begins with a quotation mark and seems "
                    "to go on in the next line. In a TSV file a text is on one line: write a CSV file, or take the "
                    "line breaks out."
                )
            open_line = number if is_open else 0


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if re.fullmatch(_QUOTED, text) else text


def _parquet(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet files are read by pyarrow, which is not installed: "
            'pip install "recbole-perpeft[parquet]".'
        ) from error
    present = parquet.ParquetFile(path).schema_arrow.names
    _refuse_twice(path, present, columns)
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
        Names the first line that has neither, or a date that could be of two days, or a number among dates.
    """
    if not pd.api.types.is_datetime64_any_dtype(column):
        is_number = pd.to_numeric(column, errors="coerce").notna().to_numpy()
        _refuse_mixture(path, column, is_number)
        if is_number.sum() > len(column) / 2:
            return numbers(path, column, "--time")
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    if dates.isna().any():
        dates = pd.to_datetime(
            column, errors="coerce", utc=True, format="mixed", dayfirst=_begin_with_days(path, column)
        )
    _refuse(path, column, dates.notna().to_numpy(), "--time is to be a number or a date")
    whole = dates.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    return whole // 1_000_000 if not (whole % 1_000_000).any() else whole / 1e6


def _refuse_mixture(path: Path, column: pd.Series, is_number: np.ndarray) -> None:
    """Numbers may be seconds, days or anything; beside dates they cannot be told."""
    seconds_ = is_number & ~column.astype(str).str.fullmatch(_DATE_OF_DIGITS).to_numpy()
    if not seconds_.any() or is_number.all():
        return
    dates = ~is_number & pd.to_datetime(column, errors="coerce", utc=True, format="mixed").notna().to_numpy()
    if dates.any():
        number, date = int(seconds_.argmax()), int(dates.argmax())
        raise DataError(
            f"{path}, rows {number + 1} and {date + 1} below the header: --time: {column.name} is "
            f"{column.iloc[number]!r}, a number, and {column.iloc[date]!r}, a date. Write all as dates, or "
            "all as seconds."
        )


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
