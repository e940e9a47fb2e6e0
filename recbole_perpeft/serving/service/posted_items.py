"""New items that a caller sends, written as files that the package reads."""

import base64
import binascii
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from recbole_perpeft.config import Config
from recbole_perpeft.serving.new_items import check_takes_items
from recbole_perpeft.serving.service.bodies import ItemBody
from recbole_perpeft.serving.service.limits import Limits
from recbole_perpeft.serving.service.served import Served
from recbole_perpeft.utils.errors import RequestError

_LONGEST_ID, _LONGEST_TEXT = 200, 10_000
_FOLDER = "images"


def check_items(items: Sequence[ItemBody], served: Served, limits: Limits) -> None:
    """Refuse what cannot be taken, before anything is written.

    Raises
    ------
    RequestError
        Names the item, and what it lacks.
    """
    config, columns = served.recommender.config, served.recommender.catalogue.columns
    check_takes_items(config, served.recommender.model)
    needed = config["text_fields"] if "text" in config["modalities"] else []
    if not 0 < len(items) <= limits.items:
        raise RequestError(f"items: {len(items)} at a time are not taken: send 1 to {limits.items}.")
    ids = [item.id for item in items]
    for item in items:
        name = f"Item {item.id[:100]!r}"
        if not _can_be_a_file(item.id, config["encoding"] or "utf-8"):
            raise RequestError(
                f"{name}: an id is of 1 to {_LONGEST_ID} bytes and the name of a picture: without slashes, control "
                "characters, and a dot or a space at its ends."
            )
        if item.id in served.recommender.catalogue or ids.count(item.id) > 1:
            raise RequestError(f"{name} is in the catalogue already, or sent twice: each needs an id of its own.")
        texts = item.__pydantic_extra__
        if unknown := sorted(texts.keys() - set(columns) - set(needed)):
            raise RequestError(
                f"{name}: the items have no column {unknown[0][:100]!r}; there are {', '.join(columns)}."
            )
        if missing := [column for column in needed if not texts.get(column, "").strip()]:
            raise RequestError(f"{name} has no {missing[0]}: the model reads it, so send one.")
        if max((len(text) for text in texts.values()), default=0) > _LONGEST_TEXT:
            raise RequestError(f"{name}: a text has more than {_LONGEST_TEXT:,} characters. Send a shorter one.")
        if "image" in config["modalities"] and not item.picture:
            raise RequestError(f"{name} has no picture: the model reads it, so send its file in base64.")


def _can_be_a_file(item: str, encoding: str) -> bool:
    return (
        0 < len(item.encode("utf-8", "replace")) <= _LONGEST_ID
        and item.encode(encoding, "ignore").decode(encoding) == item
        and item == item.strip(" .")
        and item.isprintable()
        and not set(item) & set('/\\"')
    )


def write_items(items: Sequence[ItemBody], config: Config, folder: Path, limits: Limits) -> tuple[Path, dict]:
    """Write an atomic ``.item`` file and the pictures into ``folder``; what is sent names no file.

    Returns
    -------
    tuple
        The file, and the settings by which it is read.

    Raises
    ------
    RequestError
        If a picture is no base64 or cannot be read.
    """
    (folder / _FOLDER).mkdir()
    column = config["image_field"]
    rows = []
    for number, item in enumerate(items):
        row = {config["ITEM_ID_FIELD"]: item.id, **item.__pydantic_extra__}
        if item.picture and "image" in config["modalities"]:
            # by its number where a column names it, else the item's id, which has been looked at, is its name
            name = f"{number if column else item.id}.png"
            _write_picture(item, folder / _FOLDER / name, limits)
            if column:
                row[column] = f"{_FOLDER}/{name}"
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[f"{name}:token" for name in names], *([row.get(name, "") for name in names] for row in rows)]
    file = folder / "new.item"
    with open(file, "w", encoding=config["encoding"] or "utf-8", errors="replace", newline="") as target:
        csv.writer(target, delimiter=config["field_separator"], quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
            lines
        )
    return file, {"image_dir": _FOLDER, "content_cache": str(folder / "cache"), "show_progress": False}


def _write_picture(item: ItemBody, file: Path, limits: Limits) -> None:
    from PIL import Image  # late, with its decoders: only new items need it

    from recbole_perpeft.content.pictures import UnreadablePicture, formats, open_picture

    name = f"Item {item.id[:100]!r}"
    try:
        data = base64.b64decode(item.picture, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"{name}: its picture is not base64. Send the picture's file in base64.") from None
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as picture:
            pixels = picture.width * picture.height
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        raise RequestError(f"{name}: its picture is none that can be read. Send a PNG or a JPEG.") from None
    if pixels > limits.pixels:
        raise RequestError(f"{name}: its picture has {pixels:,} pixels, and {limits.pixels:,} are the most.")
    file.write_bytes(data)
    try:
        open_picture(file)
    except UnreadablePicture as error:
        raise RequestError(f"{name}: its picture cannot be read: {error}. Send a PNG or a JPEG.") from None
