"""One text per item, out of the columns that describe it."""

import string
from collections.abc import Mapping, Sequence

from recbole_perpeft.utils.errors import ContentError


def check_template(template: str | None, fields: Sequence[str]) -> None:
    """Check `text_fields` and `text_template` against each other.

    Parameters
    ----------
    template
        A `str.format` template such as ``"{title}. {genres}"``, or None.
    fields
        The columns that it may name.

    Raises
    ------
    ContentError
        If there are no fields, one is no text, or the template is malformed or names another column.
    """
    if not fields:
        raise ContentError("`text_fields` is empty: name the columns of the item file that describe an item.")
    if numbers := [field for field in fields if not isinstance(field, str)]:
        raise ContentError(f"`text_fields` has {numbers[0]!r}, which is no text: write the column's name in quotes.")
    if template is None:
        return
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        unknown = [name for name in names if name not in fields]
        if not unknown:
            template.format(**dict.fromkeys(fields, ""))
    except (ValueError, KeyError, IndexError) as error:
        raise ContentError(
            f"`text_template: {template}` is not a template ({error}): write columns in braces, as in {{title}}."
        ) from None
    if unknown or not names:
        found = f"names {', '.join(f'{{{name}}}' for name in unknown)}" if unknown else "names no column"
        raise ContentError(
            f"`text_template: {template}` {found}; `text_fields` offers "
            f"{', '.join(f'{{{field}}}' for field in fields)}."
        )


def join_texts(values: Mapping[str, str], fields: Sequence[str], template: str | None) -> str:
    """Make one text of an item's values.

    Parameters
    ----------
    values
        Column -> value.
    fields
        The columns to use, in this order.
    template
        A checked `str.format` template; None joins the values that are not blank by ``". "``.

    Returns
    -------
    str
        The text; empty if all values are blank, whatever the template adds around them.
    """
    present = [values[field] for field in fields if values[field].strip()]
    if not present:
        return ""
    return ". ".join(present) if template is None else template.format(**{field: values[field] for field in fields})
