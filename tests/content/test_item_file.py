"""Titles reach the tokenizer as they were written, also where RecBole's own reading breaks them."""

from typing import NamedTuple

import pandas as pd
import pytest

from recbole_perpeft.content import ContentError
from recbole_perpeft.content.item_file import read_item_texts


class Case(NamedTuple):
    """A title as it stands in the file, as it is meant, and in which columns RecBole's reading breaks it."""

    written: str
    meant: str
    recbole_breaks: tuple[str, ...] = ()


BOTH = ("middle", "last")
CASES = {
    "plain": Case("Red shoe", "Red shoe"),
    "quote leading": Case('"Quoted" title', '"Quoted" title', BOTH),
    "quoted whole": Case('"whole title in quotes"', '"whole title in quotes"', BOTH),
    "quote inside": Case('10" ruler', '10" ruler'),
    "quote unbalanced at the start": Case('"Unfinished title', '"Unfinished title', BOTH),
    "quote unbalanced at the end": Case('Title"', 'Title"'),
    "quote alone": Case('"', '"', BOTH),
    "two quotes": Case('""', '""', BOTH),
    "two quoted words": Case('"Foo" and "Bar"', '"Foo" and "Bar"', BOTH),
    "csv, doubled quotes": Case('"A ""fine"" day"', 'A "fine" day'),
    "csv, title all in quotes": Case('"""All in quotes"""', '"All in quotes"'),
    "csv, quoted tab": Case('"tab\there"', "tab\there"),
    "csv, quoted newline": Case('"line\nbreak"', "line\nbreak"),
    "csv, several newlines, tab and quotes": Case('"1\n\n2\t""3""\n4"', '1\n\n2\t"3"\n4'),
    "html entity": Case("Salt &amp; pepper &quot;mill&quot;", "Salt &amp; pepper &quot;mill&quot;"),
    "NA": Case("NA", "NA", BOTH),
    "null": Case("null", "null", BOTH),
    "None": Case("None", "None", BOTH),
    "nan": Case("nan", "nan", BOTH),
    "number": Case("007", "007"),
    "spaces around": Case(" spaced ", " spaced "),
    "Chinese": Case("红色的鞋", "红色的鞋"),
    "Arabic": Case("حذاء أحمر", "حذاء أحمر"),
    "emoji": Case("shoe 👟👩‍🚀", "shoe 👟👩‍🚀"),
    "line separator of Unicode": Case("one\u2028two\x85three", "one\u2028two\x85three"),
}


def file_text(title: str, place: str) -> str:
    if place == "middle":
        return f"item_id:token\ttitle:token_seq\tyear:token\n1\t{title}\t2001\n2\tOther\t2002\n"
    return f"item_id:token\tyear:token\ttitle:token_seq\n1\t2001\t{title}\n2\t2002\tOther\n"


def recbole_title(path) -> str:
    """The title of item 1 as RecBole's `Dataset._load_feat` reads it."""
    rows = pd.read_csv(path, delimiter="\t", engine="python", dtype=str)
    rows = rows[rows["item_id:token"].isin(["1", "2"])]
    assert len(rows) == 2
    return rows.loc[0, "title:token_seq"]


@pytest.mark.parametrize("place", BOTH)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_title_as_written(case: Case, place: str, tmp_path):
    path = tmp_path / "shop.item"
    path.write_text(file_text(case.written, place), encoding="utf-8", newline="")

    texts = read_item_texts(path, "item_id", ["title", "year"])

    assert texts == {"1": {"title": case.meant, "year": "2001"}, "2": {"title": "Other", "year": "2002"}}


@pytest.mark.parametrize("place", BOTH)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_where_recbole_breaks(case: Case, place: str, tmp_path):
    path = tmp_path / "shop.item"
    path.write_text(file_text(case.written, place), encoding="utf-8", newline="")

    try:
        as_meant = recbole_title(path) == case.meant
    except (pd.errors.ParserError, AssertionError):
        as_meant = False

    assert as_meant == (place not in case.recbole_breaks)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_title_reaches_the_tokenizer(case: Case, prepare, tokenizer, tmp_path):
    path = tmp_path / "shop.item"
    path.write_text(file_text(case.written, "middle"), encoding="utf-8", newline="")

    content = prepare(item_file=path, item_ids=["[PAD]", "2", "1"], modalities=("text",), max_text_length=64)

    assert tokenizer.decode(content.tokens[2][: content.lengths[2]]) == case.meant


def test_very_long_title_is_read_whole_and_cut_in_tokens(prepare, tokenizer, tmp_path):
    title = "".join(chr(ord("a") + i % 26) for i in range(200_000))  # longer than the limit of Python's csv module
    path = tmp_path / "shop.item"
    path.write_text(file_text(title, "last"), encoding="utf-8")

    assert read_item_texts(path, "item_id", ["title"])["1"]["title"] == title
    content = prepare(item_file=path, item_ids=["[PAD]", "1", "2"], modalities=("text",), max_text_length=32)
    assert tokenizer.decode(content.tokens[1]) == title[:32]
    assert content.lengths.tolist() == [1, 32, 5]


def test_empty_value_is_empty_text(tmp_path):
    path = tmp_path / "shop.item"
    path.write_text(file_text("", "last"), encoding="utf-8")
    assert read_item_texts(path, "item_id", ["title"])["1"] == {"title": ""}


@pytest.mark.parametrize("written", ["Red shoe", '"line\r\nbreak"'])
def test_crlf(written: str, tmp_path):
    path = tmp_path / "shop.item"
    text = f"item_id:token\ttitle:token_seq\r\n1\t{written}\r\n2\tOther\r\n"
    path.write_bytes(text.encode())
    texts = read_item_texts(path, "item_id", ["title"])
    assert texts == {"1": {"title": written.strip('"').replace("\r", "")}, "2": {"title": "Other"}}


def test_byte_order_mark(tmp_path):
    path = tmp_path / "shop.item"
    path.write_text(file_text("Red shoe", "middle"), encoding="utf-8-sig")
    assert read_item_texts(path, "item_id", ["title"])["1"] == {"title": "Red shoe"}


@pytest.mark.parametrize("title", ["Red shoe", '"whole"', "tab\tand\nnewline", 'A "fine" day', "", "NA"])
def test_file_with_all_fields_quoted(title: str, tmp_path):
    path = tmp_path / "shop.item"
    rows = pd.DataFrame({"item_id:token": ["1", "2"], "title:token_seq": [title, "Other"]})
    rows.to_csv(path, sep="\t", index=False, quoting=1, encoding="utf-8")
    assert read_item_texts(path, "item_id", ["title"]) == {"1": {"title": title}, "2": {"title": "Other"}}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_file_written_by_pandas(case: Case, tmp_path):
    """A CSV writer quotes what needs it, so its files come back exactly, whatever the title."""
    path = tmp_path / "shop.item"
    rows = pd.DataFrame({"item_id:token": ["1", "2"], "title:token_seq": [case.meant, "Other"]})
    rows.to_csv(path, sep="\t", index=False, encoding="utf-8")
    assert read_item_texts(path, "item_id", ["title"]) == {"1": {"title": case.meant}, "2": {"title": "Other"}}


def test_unbalanced_quote_does_not_swallow_the_next_items(tmp_path):
    path = tmp_path / "shop.item"
    titles = ['"Unfinished', 'Ends in a quote"', '"also open', "plain"]
    lines = [f"{number}\t{title}" for number, title in enumerate(titles)]
    path.write_text("item_id:token\ttitle:token_seq\n" + "\n".join(lines), encoding="utf-8")
    texts = read_item_texts(path, "item_id", ["title"])
    assert [text["title"] for text in texts.values()] == titles


def test_unbalanced_quote_before_a_quoted_tab(tmp_path):
    path = tmp_path / "shop.item"
    path.write_text('item_id:token\ttitle:token_seq\n1\t"Unfinished\n2\t"a\tb"\n', encoding="utf-8")
    assert read_item_texts(path, "item_id", ["title"]) == {"1": {"title": '"Unfinished'}, "2": {"title": "a\tb"}}


def test_unbalanced_quote_does_not_hide_a_broken_line(tmp_path):
    path = tmp_path / "shop.item"
    path.write_text('item_id:token\ttitle:token_seq\n1\t"Unfinished\njunk"x\n2\ty\n', encoding="utf-8")
    with pytest.raises(ContentError, match="line 3: 1 columns"):
        read_item_texts(path, "item_id", ["title"])


def test_first_of_repeated_items_counts(tmp_path):
    path = tmp_path / "shop.item"
    path.write_text("item_id:token\ttitle:token_seq\n1\tfirst\n1\tsecond\n", encoding="utf-8")
    assert read_item_texts(path, "item_id", ["title"]) == {"1": {"title": "first"}}


def test_other_separator_and_encoding(tmp_path):
    path = tmp_path / "shop.item"
    path.write_text('item_id:token,title:token_seq\n1,"Café, noir"\n', encoding="latin-1")
    texts = read_item_texts(path, "item_id", ["title"], encoding="latin-1", separator=",")
    assert texts == {"1": {"title": "Café, noir"}}


def test_missing_file(tmp_path):
    with pytest.raises(ContentError, match=r"shop\.item cannot be read"):
        read_item_texts(tmp_path / "shop.item", "item_id", ["title"])


@pytest.mark.parametrize(("item_id_field", "field"), [("item_id", "titel"), ("item_idd", "title")])
def test_missing_column_names_the_nearest(item_id_field: str, field: str, tmp_path):
    path = tmp_path / "shop.item"
    path.write_text(file_text("Red shoe", "middle"), encoding="utf-8")
    wanted, nearest = (field, "title") if field != "title" else (item_id_field, "item_id")
    with pytest.raises(
        ContentError, match=rf"shop\.item has no column '{wanted}'; it has item_id, title, year"
    ) as info:
        read_item_texts(path, item_id_field, [field])
    assert f"Did you mean '{nearest}'?" in str(info.value)


@pytest.mark.parametrize("line", ["2\ta title\twith a tab\t2002", "2\tno year", '2\t"open quote\tand tab\t2002'])
def test_wrong_number_of_columns(line: str, tmp_path):
    path = tmp_path / "shop.item"
    path.write_text(f"item_id:token\ttitle:token_seq\tyear:token\n1\tx\t2001\n{line}{'.' * 200}\n3\ty\t3", "utf-8")
    with pytest.raises(ContentError, match=r"shop\.item, line 3: \d columns where the header has 3: '2.*…'") as info:
        read_item_texts(path, "item_id", ["title"])
    assert "replaced by a space" in str(info.value)
    assert len(str(info.value)) < 400


def test_undecodable_bytes(tmp_path):
    path = tmp_path / "shop.item"
    path.write_bytes(file_text("Café", "middle").encode("latin-1"))
    with pytest.raises(ContentError, match=r"shop\.item, line 2: the byte 0xe9 is not utf-8\. Set `encoding`"):
        read_item_texts(path, "item_id", ["title"])


def test_unknown_encoding(tmp_path):
    with pytest.raises(ContentError, match="`encoding: utf-88` is not an encoding"):
        read_item_texts(tmp_path / "shop.item", "item_id", ["title"], encoding="utf-88")


def test_another_separator_than_the_purchases_is_named(tmp_path):
    file = tmp_path / "shop.item"
    file.write_text("item_id:token\ttitle:token_seq\ni1\tred, wool\n")
    with pytest.raises(ContentError, match=r"not separated by ',' \(field_separator\).*but by a tab: write all files"):
        read_item_texts(file, "item_id", ["title"], separator=",")
