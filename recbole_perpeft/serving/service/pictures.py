"""The pictures of known items, where the data set is at hand."""

from pathlib import Path

from recbole_perpeft.config import Config
from recbole_perpeft.content.picture_files import find_by_column, find_by_item_id
from recbole_perpeft.serving.catalogue import Catalogue
from recbole_perpeft.utils.errors import ContentError

# what browsers show
TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif",
    ".avif": "image/avif", ".bmp": "image/bmp",
}  # fmt: skip


def pictures_of(catalogue: Catalogue, config: Config) -> dict[str, Path]:
    """Files by item id, as ``data_path``, ``image_field`` and ``image_dir`` say; none, where there are none."""
    folder, tokens = Path(config["data_path"]), list(catalogue.tokens[1:])
    column, image_dir = config["image_field"], config["image_dir"] or "images"
    try:
        if column in catalogue.columns:
            found = find_by_column(tokens, dict(zip(tokens, catalogue.column(column)[1:], strict=True)), folder)
        else:
            found = find_by_item_id(tokens, folder, image_dir, tuple(TYPES))
    except ContentError:  # a bundle is opened without its pictures, and so it is served
        return {}
    pairs = zip(tokens, found, strict=True)
    return {token: file for token, file in pairs if file is not None and file.suffix.lower() in TYPES}
