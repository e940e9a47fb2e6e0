"""What the ``.item`` file calls the items."""

from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.config.atomic_files import read_header
from recbole_perpeft.content.found import find_texts
from recbole_perpeft.content.item_file import read_item_texts

_USUAL = ["title"]  # of models that read no texts, whose settings name no columns


def item_titles(config, tokens: Sequence[str]) -> list[str] | None:
    """The text of each item as a text encoder is given it, ``[n_items]``; None if the data set has none.

    Parameters
    ----------
    config
        Names the file and, in ``text_fields``, its columns.
    tokens
        Item ids in the order of their numbers; of the first, which is padding, and of items without a line the text is
        empty.
    """
    file = Path(config["data_path"]) / f"{config['dataset']}.item"
    fields, template = config["text_fields"] or _USUAL, config["text_template"]
    if not file.is_file() or not set(fields) <= set(read_header(file, config)):
        return None
    encoding, separator = config["encoding"] or "utf-8", config["field_separator"]
    rows = read_item_texts(file, config["ITEM_ID_FIELD"], fields, encoding=encoding, separator=separator)
    return ["", *find_texts([str(token) for token in tokens[1:]], rows, fields, template)]
