"""Reading text columns of RecBole's ``.item`` atomic files as they were written.

RecBole reads atomic files with pandas' CSV reader, to which a quotation mark at the start of a title opens a
quoted field and a film called ``NA`` is a missing number. Here a tab is a tab, a line end is a line end and a
value is text, unless a field can only have come from a CSV writer.

pandas cannot be told that. With ``quoting=csv.QUOTE_NONE`` it cuts a quoted title at the tab or line break in it and
leaves the doubled quotation marks of the others; with the other ways of quoting, a title that only begins with a
quotation mark swallows the next items. In all of them a line with too few columns is filled up without a word.
"""

import codecs
import difflib
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from recbole_perpeft.utils.errors import ContentError

MAX_LINES_PER_RECORD = 1000  # so that one unbalanced quotation mark cannot swallow a whole file
SHOWN_CHARACTERS = 80
TAB = "\t"
SEPARATORS = (TAB, ",", ";", "|", " ")


def read_item_texts(
    path: str | PathLike,
    item_id_field: str,
    fields: Sequence[str],
    *,
    encoding: str = "utf-8",
    separator: str = "\t",
) -> dict[str, dict[str, str]]:
    """Read columns of an atomic file as text.

    A field is taken out of its quotation marks only if it is a CSV-quoted field that needed them: it holds a
    doubled quotation mark, the separator or a line break. If the header itself is quoted, the file was
    written with all fields quoted, and every quoted field is taken out of its quotation marks. Line breaks
    inside fields become ``"\\n"``.

    Parameters
    ----------
    path
        The atomic file; its first line names the columns, as in ``item_id:token<TAB>title:token_seq``.
    item_id_field
        The column with the item ids, without its type.
    fields
        The columns to read, without their types.
    encoding
        The file's encoding. A byte order mark is skipped.
    separator
        What stands between two fields.

    Returns
    -------
    dict
        Item id -> column -> value, in the order of the file. Of rows with the same item id the first counts,
        as in RecBole.

    Raises
    ------
    ContentError
        If the file is missing, cannot be decoded, lacks a column, or has a line with too many or too few
        columns.
    """
    path = Path(path)
    lines = [line.removesuffix("\r") for line in _decode(path, encoding).split("\n")]

    header = _csv_split(lines[0], separator) or lines[0].split(separator)
    all_quoted = all(_unquote(name, separator, always=True) != name for name in header)
    columns = [_unquote(name, separator, always=True).partition(":")[0] for name in header]
    if len(columns) == 1 and (other := next((mark for mark in SEPARATORS if mark in lines[0]), None)):
        raise ContentError(
            f"The columns of {path} are not separated by {_named(separator)} (field_separator), as the purchases are, "
            f"but by {_named(other)}: write all files of the data set with the same one."
        )
    id_position = _position(item_id_field, columns, path)
    positions = {field: _position(field, columns, path) for field in fields}

    texts: dict[str, dict[str, str]] = {}
    start = 1
    while start < len(lines):
        if not lines[start]:
            start += 1
            continue
        record, end = _read_record(lines, start, len(columns), separator, all_quoted)
        if len(record) != len(columns):
            shown = lines[start][:SHOWN_CHARACTERS] + ("…" if len(lines[start]) > SHOWN_CHARACTERS else "")
            raise ContentError(
                f"{path}, line {start + 1}: {len(record)} columns where the header has {len(columns)}: "
                f"{shown!r}. {_named(separator).capitalize()} or line break inside a value must be "
                "replaced by a space, or the value put in quotation marks."
            )
        item_id = _unquote(record[id_position], separator, all_quoted)
        if item_id not in texts:
            texts[item_id] = {
                field: _unquote(record[position], separator, all_quoted) for field, position in positions.items()
            }
        start = end
    return texts


def _decode(path: Path, encoding: str) -> str:
    try:
        codec = codecs.lookup(encoding).name
    except LookupError:
        raise ContentError(f"`encoding: {encoding}` is not an encoding that Python knows; try `utf-8`.") from None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ContentError(
            f"The item file {path} cannot be read ({error.strerror}): titles and picture paths are columns of it."
        ) from None
    try:
        return data.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ContentError(
            f"{path}, line {line}: the byte 0x{data[error.start]:02x} is not {encoding}. Set `encoding` to "
            "the file's own encoding (for example `encoding: latin-1`) or convert the file to UTF-8."
        ) from None


def _named(separator: str) -> str:
    return "a tab" if separator == TAB else repr(separator)


def _position(field: str, columns: list[str], path: Path) -> int:
    if field in columns:
        return columns.index(field)
    nearest = difflib.get_close_matches(field, columns, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ContentError(f"{path} has no column {field!r}; it has {', '.join(columns) or 'an empty header'}.{hint}")


def _read_record(
    lines: list[str], start: int, n_columns: int, separator: str, all_quoted: bool
) -> tuple[list[str], int]:
    """Return the raw fields of the record that begins at line `start`, and the line after its last."""
    plain = lines[start].split(separator)
    fits = len(plain) == n_columns
    if fits and not all_quoted:
        # The last field may go on in the next line, but a next line that is a record of its own shows that it
        # does not.
        next_line = lines[start + 1] if start + 1 < len(lines) else None
        goes_on = next_line is not None and len(next_line.split(separator)) != n_columns
        if not (goes_on and plain[-1].startswith('"')):
            return plain, start + 1

    text = lines[start]
    for end in range(start + 1, start + 1 + MAX_LINES_PER_RECORD):
        quoted = _csv_split(text, separator)
        if quoted is not None:
            if len(quoted) == n_columns:
                return quoted, end
            break
        if end >= len(lines):
            break
        text += "\n" + lines[end]
    return plain, start + 1


def _csv_split(text: str, separator: str) -> list[str] | None:
    """Split at separators outside CSV-quoted fields; None if a quoted field is still open at the end.

    Quotation marks stay. A field that starts with a quotation mark but is no CSV-quoted field is taken as it
    stands.
    """
    fields: list[str] = []
    position = 0
    while True:
        # `*+` does not backtrack: the quoted part ends at the first quotation mark that is not doubled.
        quoted = re.compile(rf'"(?:[^"]|"")*+(?:"(?={re.escape(separator)}|\Z)|\Z)').match(text, position)
        if quoted:
            end = quoted.end()
            if not _is_quoted(quoted[0]):
                return None
        else:
            end = text.find(separator, position)
            end = len(text) if end < 0 else end
            if "\n" in text[position:end]:
                return []  # a line break outside quotation marks: these lines are not one record
        fields.append(text[position:end])
        if end == len(text):
            return fields
        position = end + len(separator)


def _is_quoted(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', "")


def _unquote(field: str, separator: str, always: bool) -> str:
    if not _is_quoted(field):
        return field
    content = field[1:-1]
    if always or '""' in content or separator in content or "\n" in content or "\r" in content:
        return content.replace('""', '"')
    return field
