"""The catalogue's pictures and texts, made ready for an encoder."""

from recbole_perpeft.content.errors import ContentError
from recbole_perpeft.content.item_content import ItemContent
from recbole_perpeft.content.prepare import prepare_content

__all__ = ["ContentError", "ItemContent", "prepare_content"]
