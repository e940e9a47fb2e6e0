"""What negatives are drawn from."""

import numpy as np
import pytest

from recbole_perpeft.data.negative_pools import NegativePools
from recbole_perpeft.utils.errors import DataError


def test_a_group_whose_user_bought_all_of_its_pool_draws_from_the_catalogue():
    histories = {1: np.array([1, 2, 3]), 2: np.array([1, 2]), 3: np.array([3, 4]), 4: np.array([5, 6])}
    groups = np.array([-1, 0, 0, 1, 1])
    pools = NegativePools.whole_catalogue(9, 3, histories, [8]).of_groups(groups)
    assert [pool.tolist() for pool in pools.pools] == [[1, 2, 3, 4, 5, 6, 7], [3, 4, 5, 6], []]
    assert pools.too_small == {0: 3}
    assert set(pools.draw(np.ones(200, dtype=int), 0, np.random.default_rng(0))) == {4, 5, 6, 7}


def test_a_user_who_bought_everything_is_refused_by_name_where_negatives_are_drawn():
    histories = {1: np.array([1, 2]), 2: np.array([1, 2, 3, 4, 2])}
    pools = NegativePools.whole_catalogue(6, 1, histories, [5])
    with pytest.raises(DataError, match=r"User bob bought all 4 items in training.*loss_type: CE"):
        pools.check(np.array(["[PAD]", "ann", "bob"]))
    NegativePools.whole_catalogue(6, 1, histories, []).check(np.array(["[PAD]", "ann", "bob"]))


def test_draws_are_uniform_over_what_is_left():
    histories = {1: np.array([1, 2, 3, 4, 5, 6, 7])}
    pools = NegativePools.whole_catalogue(11, 1, histories, [])  # items 1 to 10
    drawn = pools.draw(np.ones(6000, dtype=int), 0, np.random.default_rng(0))
    items, counts = np.unique(drawn, return_counts=True)
    assert items.tolist() == [8, 9, 10]
    assert abs(counts - 2000).max() < 200


def shop_of_two_groups():
    """In group 0 user 1 bought 1 and 2, user 2 bought 3 to 6; in group 1 user 3 bought 7. 20 is left out."""
    histories = {1: np.array([1, 2]), 2: np.array([3, 4, 5, 6]), 3: np.array([7])}
    return NegativePools.whole_catalogue(21, 2, histories, [20]).of_groups(np.array([0, 0, 0, 1]))


def test_negatives_are_uniform_over_what_the_group_bought_and_the_user_did_not():
    drawn = shop_of_two_groups().draw(np.ones(20_000, dtype=int), 0, np.random.default_rng(0))
    items, counts = np.unique(drawn, return_counts=True)
    assert items.tolist() == [3, 4, 5, 6]
    assert abs(counts / len(drawn) - 1 / 4).max() < 0.02


def test_shared_negatives_all_differ_and_are_the_pool_if_it_has_no_more():
    pools, rng = shop_of_two_groups(), np.random.default_rng(0)
    draws = [pools.draw_shared(3, 0, rng).tolist() for _ in range(100)]
    assert all(len(set(drawn)) == 3 for drawn in draws)
    assert {item for drawn in draws for item in drawn} == {1, 2, 3, 4, 5, 6}
    assert sorted(pools.draw_shared(8, 0, rng)) == [1, 2, 3, 4, 5, 6]
