"""Streams of JSON lines: the same from plain and packed files, and each fault by its file and line."""

import gzip
import json

import msgspec
import pytest

from recbole_perpeft.data.sources.json_lines import records
from recbole_perpeft.utils.errors import DataError


class Row(msgspec.Struct):
    n: int
    word: str | None = None


def rows_of(path):
    return [(row.n, row.word) for block in records(path, Row, show_progress=False) for row in block]


LINES = [{"n": number, "word": f"w{number} \u00fc\u2028", "other": [{"deep": 1}]} for number in range(3000)]
PLAIN = "".join(json.dumps(line) + "\n" for line in LINES).encode()
EXPECTED = [(line["n"], line["word"]) for line in LINES]
HALF = len(PLAIN) // 2


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.rstrip(b"\n"),
        PLAIN.replace(b"\n", b"\r\n"),
        gzip.compress(PLAIN),
        gzip.compress(PLAIN[:HALF]) + b"\0" * 512 + gzip.compress(PLAIN[HALF:]) + b"\0" * 10,
    ],
    ids=["plain", "no end of line", "of Windows", "packed", "packed in parts"],
)
def test_all_objects_come_in_their_order_whatever_the_file_is_called(tmp_path, monkeypatch, content):
    monkeypatch.setattr("recbole_perpeft.data.sources.json_lines._READ", 700)  # lines lie across blocks
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert rows_of(path) == EXPECTED


def test_half_characters_are_taken_as_they_are(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1, "word": "a"}\n\n{"n": 2, "word": "\\ud83d"}\n')
    assert rows_of(path) == [(1, "a"), (2, "\ud83d")]


PACKED = gzip.compress(PLAIN)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PACKED[:-5], "is cut short: its packed data end before their end"),
        (PACKED[:2000], "is cut short|line [0-9]+ is no JSON.*cut short"),
        (PACKED[:3000] + b"\xff" * 50 + PACKED[3050:], "is damaged"),
        (PLAIN + b'{"n": 5, "wo', "line 3001 is no JSON .*the file may be cut short"),
        (PLAIN + b'{"n": "five"}\n', r"line 3001: Expected `int`, got `str` - at `\$\.n`"),
        (b'{"m": 1}\n', "line 1: Object missing required field `n`. Is it a file of another kind"),
        (b"PK\x03\x04\x00\n\x00", "line 1 is no JSON"),
    ],
    ids=["without its end", "half", "overwritten", "half a line", "a word for a number", "other fields", "a zip"],
)
def test_a_fault_is_named_with_its_file_and_line(tmp_path, content, message):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        rows_of(path)
    assert str(path) in str(error.value)


def test_a_file_without_lines_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_perpeft.data.sources.json_lines._LONGEST", 1000)
    path = tmp_path / "rows.json"
    path.write_bytes(b"[" + b"0," * 3_000_000)
    with pytest.raises(DataError, match="a line of more than 1,000 bytes"):
        rows_of(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere.jsonl cannot be read: No such file"):
        rows_of(tmp_path / "nowhere.jsonl")
