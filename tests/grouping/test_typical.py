"""What sets groups apart, against the formula written out for a case of three items."""

from math import log, sqrt

import numpy as np
import pytest

from recbole_perpeft.grouping.typical import log_odds, purchases_by_group, typical_items, typical_words, words_in

COUNTS = np.array([[0, 58, 22, 0], [0, 12, 28, 40]])  # item 0 is padding


def test_log_odds_by_hand():
    total, rows = [70, 50, 40], ([58, 22, 0], [12, 28, 40])
    prior = [3 * each / 160 for each in total]  # three kinds, as they are in both groups together

    def z(group, kind):
        odds, variance = [], 0
        for counts in (rows[group], rows[1 - group]):
            mine, every = counts[kind] + prior[kind], sum(counts) + sum(prior)
            odds.append(log(mine / (every - mine)))
            variance += 1 / mine
        return (odds[0] - odds[1]) / sqrt(variance)

    by_hand = [[0, *(z(group, kind) for kind in range(3))] for group in range(2)]
    assert log_odds(COUNTS) == pytest.approx(np.array(by_hand))


def test_items_and_words():
    first, second = typical_items(COUNTS, 2)
    assert [each.kind for each in first] == [1]
    assert [each.kind for each in second] == [3]  # the other is within what chance does
    assert first[0].times == 58
    assert first[0].ratio == pytest.approx((58 / 80) / (70 / 160))
    words = typical_words(COUNTS, ["", "Golf &amp; golf bag", "Bag", "Camping bag"], 3)
    assert [[(word.kind, word.times) for word in of_group] for of_group in words] == [
        [("golf", 58)],  # once for a purchase, however often it stands in the title
        [("camping", 40)],
    ]


def test_a_group_alone_and_nothing_bought_set_nothing_apart():
    assert typical_items(COUNTS[:1], 3) == [[]]
    assert typical_items(np.zeros((2, 4), int), 3) == [[], []]
    assert typical_words(COUNTS, ["", "", "", ""], 3) == [[], []]


def test_words_are_letters_of_any_script():
    assert words_in("Über-Zelt 2x, 東京 A &lt;b&gt;") == ["über", "zelt", "東京"]


def test_purchases_are_counted_by_group():
    sequences = {1: np.array([2, 2, 1]), 2: np.array([3]), 3: np.array([1])}
    counts = purchases_by_group(sequences, np.array([-1, 0, 1, -1]), 2, 4)
    assert counts.tolist() == [[0, 1, 2, 0], [0, 0, 0, 1]]
