"""Cold items: a share of the items that nobody buys in training, for a test of how new items are ranked."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # a bundle is served without pandas
    import pandas as pd

LEAST_PURCHASES = 4  # two to train on (a first one and a target), one to validate, one to test


def hold_out(
    purchases: "pd.DataFrame", user: str, item: str, time: str, share: float, seed: int
) -> tuple["pd.DataFrame", np.ndarray]:
    """Draw cold items and take their purchases out, but for a user's last.

    Parameters
    ----------
    purchases
        Columns ``user``, ``item`` and ``time``.
    share
        Of all items, in (0, 1).

    Returns
    -------
    tuple
        The purchases that stay, of users with four or more of them; and the cold items, sorted.
    """
    items = np.sort(purchases[item].unique())
    number = max(1, round(share * len(items)))
    cold = np.sort(np.random.default_rng(seed).choice(items, size=number, replace=False))
    ordered = purchases.sort_values([user, time], kind="stable")
    is_last = ~ordered[user].duplicated(keep="last")
    ordered = ordered[is_last | ~ordered[item].isin(set(cold))]
    enough = ordered.groupby(user)[item].transform("size") >= LEAST_PURCHASES
    return ordered[enough].sort_index().reset_index(drop=True), cold
