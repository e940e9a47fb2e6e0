"""RecBole's atomic files before they are loaded: what their headers say, and what is wrong with a file in one line."""

import codecs
import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from recbole.utils.enum_type import FeatureType

from recbole_perpeft.utils.errors import DataError

if TYPE_CHECKING:  # a bundle is served without pandas
    import pandas as pd

_TYPES = [kind.value for kind in FeatureType]
_SEPARATORS = {"\t": "a tab", ",": "','", ";": "';'", "|": "'|'", " ": "a blank"}
_NAMES_OF_IDS = {
    "USER_ID_FIELD": ("user", "userid", "uid", "reviewerid", "customerid"),
    "ITEM_ID_FIELD": ("item", "itemid", "iid", "asin", "parentasin", "productid", "movieid", "articleid"),
}
_SHOWN = 60  # characters of a value


def read_header(file: Path, config) -> dict[str, str | None]:
    """The columns of an atomic file, in its order, with their types (None where the header gives none).

    Names that a CSV writer put in quotation marks are taken out of them, as ``.item`` files may have them.

    Parameters
    ----------
    config
        Reads ``encoding`` and ``field_separator``.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, or starts with a byte order mark that ``encoding`` does not expect.
    """
    encoding = config["encoding"] or "utf-8"
    try:
        with open(file, encoding=encoding) as handle:
            line = handle.readline().rstrip("\n")
    except LookupError:
        raise DataError(f"encoding: {encoding} is not an encoding that Python knows; try utf-8.") from None
    except UnicodeDecodeError as error:
        raise _not_in(encoding, file, error) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if line.startswith("\ufeff"):
        raise DataError(f"{file} starts with a byte order mark, as spreadsheets write it: set encoding: utf-8-sig.")
    if not line.strip():
        raise DataError(f"{file} is empty: its first line must name its columns, as in user_id:token.")
    columns = {}
    for field in line.split(config["field_separator"]):
        is_quoted = len(field) > 1 and field[0] == field[-1] == '"'
        name, colon, kind = (field[1:-1].replace('""', '"') if is_quoted else field).partition(":")
        if name in columns:
            raise DataError(f"The header of {file} names the column {name!r} twice: rename one of them.")
        columns[name] = kind if colon else None
    return columns


def check_header(file: Path, config) -> dict[str, str]:
    """As :func:`read_header`, but a header that RecBole would stumble over is refused.

    Raises
    ------
    DataError
        On another separator, quotation marks, missing or unknown types; says what to write.
    """
    columns = read_header(file, config)
    separator = config["field_separator"]
    names = list(columns)
    if len(names) == 1:
        other = next((mark for mark in _SEPARATORS if mark != separator and mark in _whole_line(file, config)), None)
        if other:
            seen = _SEPARATORS.get(separator, repr(separator))
            cure = "leave field_separator out" if other == "\t" else f"set --field_separator='{other}'"
            raise DataError(
                f"The columns of {file} are not separated by {seen} (field_separator) but by {_SEPARATORS[other]}: "
                f"{cure}."
            )
    fields = _whole_line(file, config).rstrip("\n").split(separator)
    if quoted := next((field for field in fields if field.startswith(('"', "'"))), None):
        raise DataError(
            f"The header of {file} is in quotation marks ({_shown(quoted)}), which RecBole takes for a part of the "
            "name: write it without."
        )
    if any(kind is None for kind in columns.values()):
        raise DataError(_without_types(file, columns, config))
    for name, kind in columns.items():
        if kind not in _TYPES:
            raise DataError(f"{file}: column {name} has the type {kind!r}; possible are {', '.join(_TYPES)}.")
    return columns


def _not_in(encoding: str, file: Path, error: UnicodeDecodeError) -> DataError:
    with open(file, "rb") as handle:
        marks = handle.read(2)
    other = "utf-16" if marks in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"
    return DataError(f"{file} is not in {encoding} ({error}): set encoding, say --encoding={other}.")


def _whole_line(file: Path, config) -> str:
    with open(file, encoding=config["encoding"] or "utf-8") as handle:
        return handle.readline()


def _without_types(file: Path, columns: dict[str, str | None], config) -> str:
    """What to write instead of a header such as MMRec's, and the settings that say which column is which."""
    settings, roles = [], {}
    for key, names in _NAMES_OF_IDS.items():
        plain = {name.lower().replace("_", ""): name for name in columns}
        found = config[key] if config[key] in columns else next((plain[n] for n in names if n in plain), None)
        if found is not None:
            roles[found] = "token"
            if found != config[key]:
                settings.append(f"--{key}={found}")
    floats = {config["TIME_FIELD"], config["RATING_FIELD"], "timestamp", "rating", "time"}
    typed = [
        f"{name}:{kind or roles.get(name) or ('float' if name in floats else 'token')}"
        for name, kind in columns.items()
    ]
    also = f", and run with {' '.join(settings)}" if settings else ""
    return (
        f"The header of {file} gives no types: {', '.join(columns)}. Replace its first line by "
        f"{config['field_separator'].join(typed)!r} (token is an id, float a number, token_seq words){also}."
    )


def unreadable(file: Path, config, error: Exception) -> DataError:
    """The error for a file that pandas cannot read: the first value that is no number, where there is one."""
    import pandas as pd

    columns = read_header(file, config)
    try:
        table = pd.read_csv(
            file, delimiter=config["field_separator"], dtype=str, encoding=config["encoding"], engine="python"
        )
    except ValueError as again:
        return DataError(f"{file} cannot be read: {again}. Perhaps a quotation mark has no partner.")
    for (name, kind), read in zip(columns.items(), table.columns, strict=True):
        if kind != FeatureType.FLOAT.value:
            continue
        wrong = table[read].notna() & pd.to_numeric(table[read], errors="coerce").isna()
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            value = _shown(str(table[read][row]))
            cure = "write numbers, or give the column another type"
            if name == config["TIME_FIELD"]:
                cure = "write times as numbers, say seconds since 1970 (pandas.Timestamp(date).timestamp())"
            return DataError(f"{file}, line {row + 2}: {name} is {value}, which is no number ({name}:float): {cure}.")
    return DataError(f"{file} cannot be read: {error}")


def check_lines(file: Path, config) -> None:
    """Refuse a line with more fields than the header: pandas drops the last, or takes the first for a label.

    Raises
    ------
    DataError
        Names the first such line; or the encoding, if a line is not in it.
    """
    separator, columns = config["field_separator"], len(read_header(file, config))
    encoding = config["encoding"] or "utf-8"
    with open(file, encoding=encoding) as handle:
        try:
            for number, line in enumerate(handle, 1):
                fields = line.count(separator) + 1
                if fields > columns and '"' in line and len(separator) == 1:
                    fields = len(next(csv.reader([line], delimiter=separator)))
                if fields > columns:
                    raise DataError(
                        f"{file}, line {number}: {fields} fields where the header has {columns} columns: "
                        f"{_shown(line.rstrip())}. Leave separators out of values and the end of lines."
                    )
        except UnicodeDecodeError as error:
            raise _not_in(encoding, file, error) from error


def check_times(file: Path, config, purchases: "pd.DataFrame", kind: FeatureType) -> None:
    """Refuse purchases whose order in time is not known.

    Parameters
    ----------
    purchases
        What was loaded, its index the number of the purchase in the file.
    kind
        The type of the time column.

    Raises
    ------
    DataError
        If times are no numbers, or some are missing.
    """
    time = config["TIME_FIELD"]
    if kind != FeatureType.FLOAT:
        raise DataError(
            f"{file}: {time} (TIME_FIELD) has the type {kind.value}, by which purchases cannot be sorted: make it "
            f"{time}:float, with numbers such as seconds since 1970."
        )
    missing = purchases.index[~np.isfinite(purchases[time])]
    if len(missing):
        raise DataError(
            f"{file}, line {missing[0] + 2}: {time} (TIME_FIELD) is missing, as in {len(missing)} of {len(purchases)} "
            "purchases, so what was bought last is not known: fill them in, or leave the lines out."
        )


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
