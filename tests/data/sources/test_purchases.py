"""The filters against plain definitions, on random purchases."""

import numpy as np
import pytest

from recbole_perpeft.data.sources.purchases import PurchaseCollector, core, filtered
from recbole_perpeft.utils.errors import DataError


def of(rows):
    taken = PurchaseCollector({"timestamp": "int64"})
    users, items, times = zip(*rows, strict=True)
    taken.add(users, items, timestamp=times)
    return taken.purchases()


def listed(purchases):
    ids = zip(purchases.user, purchases.item, purchases.values["timestamp"].tolist(), strict=True)
    return [(purchases.users[user], purchases.items[item], time) for user, item, time in ids]


def core_one_by_one(pairs, k):
    """Take out any user or item with fewer than ``k``, one after the other."""
    pairs = list(pairs)
    while True:
        for side in (0, 1):
            few = {pair[side] for pair in pairs if sum(other[side] == pair[side] for other in pairs) < k}
            if few:
                weak = min(few)
                pairs = [pair for pair in pairs if pair[side] != weak]
                break
        else:
            return pairs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [2, 3])
def test_the_core_is_the_same_in_whatever_order_it_is_taken(seed, k):
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 12, 40), rng.integers(0, 10, 40)
    pairs = list(zip(user.tolist(), item.tolist(), range(40), strict=True))
    expected = [row for _, _, row in core_one_by_one(pairs, k)]
    assert core(user, item, k).tolist() == expected


def test_of_repeats_the_earliest_is_kept_and_the_order_is_that_of_the_file():
    rows = [("b", "x", 9), ("a", "x", 5), ("a", "y", 1), ("a", "x", 3), ("a", "x", 3), ("b", "x", 8)]
    assert listed(filtered(of(rows), "file")) == [("a", "y", 1), ("a", "x", 3), ("b", "x", 8)]
    assert listed(filtered(of(rows), "file", repeats=True)) == rows
    # two purchases of one item are one, of which no core is made
    few = [("a", "x", 1), ("a", "x", 2), ("b", "x", 3), ("b", "y", 4), ("c", "x", 5), ("c", "y", 6)]
    assert listed(filtered(of(few), "file", k_core=2, repeats=True)) == few[2:]


def test_ids_that_atomic_files_cannot_hold_are_left_out_and_named(caplog):
    rows = [("a", "x", 1), ("NA", "x", 2), ("a", "t\tb", 3), ("", "x", 4), ('"q', "x", 5), ("a", "null", 6)]
    assert listed(filtered(of(rows), "orders.csv")) == [("a", "x", 1)]
    assert "3 user ids of orders.csv" in caplog.text
    assert "'t\\tb'" in caplog.text
    assert "Their 3 purchases are left out" in caplog.text


def test_where_nothing_is_left_the_option_is_named():
    with pytest.raises(DataError, match="--k_core 3 is more than they have"):
        filtered(of([("a", "x", 1), ("b", "y", 2)]), "file", k_core=3)
    with pytest.raises(DataError, match="has no purchases"):
        filtered(PurchaseCollector({"timestamp": "int64"}).purchases(), "file")
