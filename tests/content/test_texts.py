"""Columns become one text."""

import pytest

from recbole_perpeft.content import ContentError
from recbole_perpeft.content.texts import check_template, join_texts

FIELDS = ["title", "genres"]


@pytest.mark.parametrize(
    ("values", "template", "text"),
    [
        ({"title": "Shoe", "genres": "Red"}, None, "Shoe. Red"),
        ({"title": "Shoe", "genres": " "}, None, "Shoe"),
        ({"title": "", "genres": "Red"}, None, "Red"),
        ({"title": "Shoe", "genres": "Red"}, "{genres}: a {title}!", "Red: a Shoe!"),
        ({"title": "Shoe", "genres": ""}, "{title} ({genres})", "Shoe ()"),
        ({"title": "A {brace}", "genres": "x"}, "{title}", "A {brace}"),
        ({"title": "", "genres": ""}, "{title}. {genres}", ""),
        ({"title": "", "genres": ""}, None, ""),
    ],
)
def test_join(values: dict, template: str | None, text: str):
    check_template(template, FIELDS)
    assert join_texts(values, FIELDS, template) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{title}. {brand}", r"names \{brand\}; `text_fields` offers \{title\}, \{genres\}"),
        ("{}", r"names \{\}"),
        ("{title.upper}", r"names \{title.upper\}"),
        ("{title", "is not a template"),
        ("{title:d}", "is not a template"),
        ("the same for all", "names no column"),
    ],
)
def test_bad_template(template: str, message: str):
    with pytest.raises(ContentError, match=message):
        check_template(template, FIELDS)


def test_a_field_that_is_no_text():
    with pytest.raises(ContentError, match="`text_fields` has 3, which is no text: write the column's name in quotes"):
        check_template(None, ["title", 3])


def test_no_fields():
    with pytest.raises(ContentError, match="`text_fields` is empty"):
        check_template(None, [])
