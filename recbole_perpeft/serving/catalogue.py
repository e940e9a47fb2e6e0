"""The items that can be recommended: their ids, and what the ``.item`` file says of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from recbole.data.dataset import Dataset

from recbole_perpeft.config import Config
from recbole_perpeft.config.atomic_files import read_header
from recbole_perpeft.content.found import find_texts
from recbole_perpeft.content.item_file import read_item_texts
from recbole_perpeft.utils.errors import RequestError, nearest_name


class Catalogue:
    """Items by their numbers in a model; number 0 is padding.

    Parameters
    ----------
    tokens
        Item ids as the files have them, ``[n_items]``.
    columns
        The names of what is known of items.
    read
        Gives, of some columns, item id to column to value.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        columns: Sequence[str] = (),
        read: Callable[[Sequence[str]], Mapping[str, Mapping[str, str]]] | None = None,
    ):
        self.tokens = np.asarray(tokens, dtype=object)
        self.columns = tuple(columns)
        self._read, self._known = read, {}
        self._number_of = {token: number for number, token in enumerate(self.tokens) if number}

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._number_of or token == self.tokens[0]

    def with_items(self, tokens: Sequence[str], file: Path, config: Config) -> "Catalogue":
        """A catalogue with more items at its end, of which an atomic ``file`` tells these columns or some of them."""
        there = read_header(file, config)

        def read(names: Sequence[str]) -> dict[str, Mapping[str, str]]:
            old = self._read([name for name in names if name in self.columns]) if self._read else {}
            told = _read_columns(file, config, [name for name in names if name in there])
            nothing = dict.fromkeys(names, "")
            return {**old, **{token: nothing | told[token] for token in tokens}}

        columns = dict.fromkeys([*self.columns, *(name for name in there if name != config["ITEM_ID_FIELD"])])
        larger = Catalogue([*self.tokens, *tokens], list(columns), read)
        told = _read_columns(file, config, [name for name in self._known if name in there])
        for name, values in self._known.items():  # which need not be read again
            new = np.array([told[token].get(name, "") for token in tokens], dtype=object)
            larger._known[name] = np.concatenate([values, new])
        return larger

    def numbers(self, items: Iterable[str]) -> np.ndarray:
        """The numbers of items, ``[n]``.

        Raises
        ------
        RequestError
            If one is unknown.
        """
        items = ids_of("items", items)
        unknown = [item for item in items if item not in self._number_of]
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise RequestError(
                f"Unknown item {unknown[0]!r}{more}: the catalogue has {len(self) - 1:,} others."
                f"{nearest(unknown[0], self._number_of)}"
            )
        return np.array([self._number_of[item] for item in items], dtype=np.int64)

    def column(self, name: str) -> np.ndarray:
        """A column's value of each item, ``[n_items]``; of items without a line in the file, an empty text.

        Raises
        ------
        RequestError
            If there is no such column.
        ContentError
            If the file cannot be read.
        """
        if name not in self.columns:
            known = nearest_name(name, self.columns) if self.columns else " There is no .item file."
            raise RequestError(f"Items have no column {name!r}.{known}")
        if name not in self._known:
            values = self._read([name])
            self._known[name] = np.array([values.get(token, {}).get(name, "") for token in self.tokens], dtype=object)
        return self._known[name]

    def texts(self, fields: Sequence[str], template: str | None) -> list[str] | None:
        """Each item's text as a text encoder is given it, ``[n_items]``; None if a column of ``fields`` is missing."""
        if not set(fields) <= set(self.columns):
            return None
        columns = [self.column(name) for name in fields]
        rows = {
            token: dict(zip(fields, values, strict=True)) for token, *values in zip(self.tokens, *columns, strict=True)
        }
        return ["", *find_texts(self.tokens[1:].tolist(), rows, fields, template)]


def catalogue_of(config: Config, dataset: Dataset) -> Catalogue:
    """The items of ``dataset``, with the columns of its ``.item`` file, if there is one."""
    file, item = Path(config["data_path"]) / f"{config['dataset']}.item", dataset.iid_field
    tokens = dataset.field2id_token[item]
    if not file.is_file():
        return Catalogue(tokens)
    columns = [name for name in read_header(file, config) if name != item]
    return Catalogue(tokens, columns, lambda names: _read_columns(file, config, names))


def _read_columns(file: Path, config: Config, names: Sequence[str]) -> dict[str, dict[str, str]]:
    encoding, separator = config["encoding"] or "utf-8", config["field_separator"]
    return read_item_texts(file, config["ITEM_ID_FIELD"], names, encoding=encoding, separator=separator)


def new_items_in(file: Path, catalogue: Catalogue, config: Config) -> list[str]:
    """The ids of the items in an atomic ``.item`` file of items that are not in the catalogue.

    Raises
    ------
    ContentError
        If it cannot be read.
    RequestError
        If there are none, or one is in the catalogue.
    """
    tokens = list(_read_columns(file, config, []))
    known = [token for token in tokens if token in catalogue]
    if known or not tokens:
        what = f"{known[0]!r} is in the catalogue already" if known else "there are none"
        raise RequestError(f"New items of {file}: {what}. Write a file of new items alone.")
    return tokens


def ids_of(what: str, ids: Iterable[str]) -> list[str]:
    """Ids as a list.

    Raises
    ------
    RequestError
        If they are a single text, which would be read letter by letter.
    """
    if isinstance(ids, str):
        raise RequestError(f"{what}: {ids!r} is one text: give a list of ids.")
    return [str(token) for token in ids]


def nearest(token: str, known: Iterable[str]) -> str:
    """A sentence with what ``token`` may have meant, after a space; nothing, if none is like it."""
    return nearest_name(token, known).partition(" Known:")[0]
