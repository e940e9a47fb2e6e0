"""The catalogue's pictures and texts, made ready for an encoder."""

from recbole_perpeft.content.item_content import ItemContent
from recbole_perpeft.content.prepare import prepare_content
from recbole_perpeft.utils.errors import ContentError

__all__ = ["ContentError", "ItemContent", "prepare_content"]
