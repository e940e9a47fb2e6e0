"""The catalogue's pictures and texts, made ready for an encoder."""

from typing import TYPE_CHECKING

from recbole_perpeft.utils.errors import ContentError
from recbole_perpeft.utils.late_imports import late_imports

if TYPE_CHECKING:
    from recbole_perpeft.content.item_content import ItemContent
    from recbole_perpeft.content.prepare import prepare_content

__all__ = ["ContentError", "ItemContent", "prepare_content"]
# which wait for transformers
__getattr__ = late_imports(__name__, {"ItemContent": "item_content", "prepare_content": "prepare"})
