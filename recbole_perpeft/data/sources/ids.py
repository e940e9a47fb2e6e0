"""Ids that atomic files cannot hold."""

import re
from collections.abc import Iterable

from pandas._libs.parsers import STR_NA_VALUES

# pandas, with which RecBole reads atomic files, takes these for a missing value
NOT_IDS = frozenset(STR_NA_VALUES)
# a separator, a line break, a quotation mark, which may open a quoted field, and what UTF-8 or a CSV reader cannot hold
_BREAKING = re.compile('[\t\n\r"\0\ud800-\udfff]')


def unusable(ids: Iterable[str]) -> list[str]:
    """Those of ``ids`` that would not come back as they are, or would count as missing."""
    ids = list(ids)
    if _BREAKING.search("".join(ids)):
        return [one for one in ids if one in NOT_IDS or _BREAKING.search(one)]
    return [one for one in ids if one in NOT_IDS]
