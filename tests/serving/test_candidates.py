"""Lists by candidates are those by all scores; where it cannot be said who they are, there are none.

Vectors are of whole numbers, whose products fp32 adds up without rounding and bf16 does not.
"""

import numpy as np
import pytest
import torch

from recbole_perpeft.serving import candidates, ranking
from recbole_perpeft.serving.candidates import Candidates
from recbole_perpeft.serving.products import Product
from recbole_perpeft.serving.ranking import Ranking
from recbole_perpeft.utils.errors import TrainingError

N, K, D = 4200, 4, 8
PADDING = torch.tensor([0])


@pytest.fixture(autouse=True)
def bf16(monkeypatch):
    monkeypatch.setattr(candidates, "multiplies_bf16", lambda: True)
    monkeypatch.setattr(candidates, "_LEAST_USERS", 8)


def whole_numbers(n, high, seed=0, d=D):
    return torch.from_numpy(np.random.default_rng(seed).integers(-high, high + 1, size=(n, d))).float()


def far_from_zero():
    return whole_numbers(N, 20) + 1000


def unequal_norms():
    return whole_numbers(N, 3) * 2.0 ** torch.from_numpy(np.random.default_rng(1).integers(-20, 9, size=(N, 1)))


def all_rounded():
    """Odd numbers above 256, halfway between two of bf16's, and their mean is zero."""
    odd = 257 + 2 * whole_numbers(N // 2, 60).abs()
    return torch.cat([odd, -odd])


def few_kinds():
    return whole_numbers(40, 900)[torch.from_numpy(np.random.default_rng(2).integers(40, size=N))]


ITEMS = {
    "as they come": lambda: whole_numbers(N, 900),
    "far from zero": far_from_zero,
    "of unequal norms": unequal_norms,
    "all rounded": all_rounded,
    "of few kinds": few_kinds,
    "small": lambda: whole_numbers(N, 900) * 2.0**-30,
}


def expected(queries, items, bought=None, shut=(0,), k=K):
    """By float64 and a sort of all items, equal ones in the fixed order."""
    scores = queries.double().numpy() @ items.double().numpy().T
    scores[:, list(shut)] = -np.inf
    if bought is not None:
        scores[bought[0].numpy(), bought[1].numpy()] = -np.inf
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0)).numpy()
    best = np.array([np.lexsort((order, -row))[:k] for row in scores])
    return best, np.take_along_axis(scores, best, axis=1)


def product(queries, items, rows=None):
    return Product(0, torch.arange(len(queries)) if rows is None else rows, (queries,), (items,))


def candidates_of(queries, items, bought=None, shut=PADDING, k=K):
    found = Candidates(len(items), shut)
    assert found.of(product(queries, items), bought, k) is None  # items are met for the first time
    return found.of(product(queries, items), bought, k)


@pytest.mark.parametrize("kind", ITEMS)
def test_lists_are_those_by_all_scores(kind):
    items, queries = ITEMS[kind](), whole_numbers(150, 30, seed=3)
    rng = np.random.default_rng(4)
    bought = tuple(torch.from_numpy(rng.integers(size, size=2000)) for size in (150, N))
    best, _ = expected(queries, items)
    bought = torch.cat([bought[0], torch.arange(150)]), torch.cat([bought[1], torch.from_numpy(best[:, 0])])
    shut = torch.tensor([0, *sorted(set(best[:5, 1].tolist()))])
    lists = Ranking(N, 150, shut)
    assert lists._blocks_with_candidates([product(queries, items)], K)
    for _ in range(2):
        found, scores = lists.of_products([product(queries, items)], 150, bought, K)
        best, best_scores = expected(queries, items, bought, shut)
        assert np.array_equal(found.numpy(), best)
        assert np.array_equal(scores.numpy(), best_scores)


@pytest.mark.parametrize("kind", ["as they come", "far from zero", "of unequal norms", "all rounded"])
def test_candidates_are_few_and_hold_all_that_equal_the_last(kind):
    items, queries = ITEMS[kind](), whole_numbers(10, 30, seed=3)
    found = candidates_of(queries, items).numpy()
    scores = queries.double().numpy() @ items.double().numpy().T
    scores[:, 0] = -np.inf
    last = expected(queries, items)[1][:, -1:]
    needed = np.flatnonzero((scores >= last).any(axis=0))
    assert np.isin(needed, found).all()
    assert len(found) < N / 4
    assert (np.diff(found) > 0).all()


def test_users_of_several_groups_are_ranked_by_their_groups_items():
    tables = [(whole_numbers(N, 900, seed), whole_numbers(N, 90, seed + 9, d=3)) for seed in range(3)]
    rows = torch.from_numpy(np.random.default_rng(0).permutation(100)).split([47, 50, 3])  # too few in the last
    rows = [some.sort().values for some in rows]
    queries = [(whole_numbers(len(some), 30, 20), whole_numbers(len(some), 30, 21, d=3)) for some in rows]
    products = [Product(number, *parts) for number, parts in enumerate(zip(rows, queries, tables, strict=True))]
    bought = torch.arange(100), torch.arange(100) % 7 + 1
    lists = Ranking(N, 100, PADDING)
    for _ in range(2):
        found, scores = lists.of_products(products, 100, bought, K)
        for some, vectors, table in zip(rows, queries, tables, strict=True):
            pairs = torch.arange(len(some)), bought[1][some]
            best, best_scores = expected(torch.cat(vectors, dim=1), torch.cat(table, dim=1), pairs)
            assert np.array_equal(found[some].numpy(), best)
            assert np.array_equal(scores[some].numpy(), best_scores)


# the better item of two, of which bf16 makes the worse, by what alone is rounded
MISLEADING = {
    "the better item": ([1] * 8, [257] * 4 + [-236] * 4, [258, 256, 256, 256] + [-236] * 4),  # 257 is rounded to 256
    "the other item": ([1] * 8, [256] * 4 + [-235] * 4, [259] * 4 + [-238, -238, -238, -239]),  # 259 is rounded to 260
    "the user": ([1097, 1894, 451, 1624], [214, 0, -214, 0], [0, 240, 0, -195]),
    "items and products": ([1] * 4 + [0] * 4, [261, 261, 261, 265] + [0] * 4, [263, 263, 263, 259] + [0] * 4),
}


@pytest.mark.parametrize("rounded", MISLEADING)
def test_nothing_that_is_rounded_hides_an_item(rounded):
    query, better, other = (torch.tensor([vector]).float() for vector in MISLEADING[rounded])
    assert (query @ better.T) >= (query @ other.T)
    items = torch.zeros(N, query.shape[1])
    items[[1000, 1001, 3000, 3001]] = torch.cat([better, -better, other, -other])  # whose mean is zero
    assert candidates_of(query, items, k=1).tolist() == [1000, 3000]


def test_users_of_several_groups_at_once_are_ranked_by_the_sums():
    tables, queries = [whole_numbers(N, 900, seed) for seed in range(2)], whole_numbers(30, 30, 20)
    some = torch.arange(5, 25)
    products = [product(queries, tables[0]), product(queries[some], tables[1], some)]
    lists = Ranking(N, 30, PADDING)
    for _ in range(2):
        found, _ = lists.of_products(products, 30, None, K)
        assert np.array_equal(found[some].numpy(), expected(queries[some], tables[0] + tables[1])[0])
        assert np.array_equal(found[:5].numpy(), expected(queries[:5], tables[0])[0])


def no_length(queries, items):
    queries[3] = 0


def one_score(queries, items):
    items[:] = items[0]


def beyond_fp32(queries, items):
    items *= 2.0**110


@pytest.mark.parametrize("spoil", [no_length, one_score, beyond_fp32])
def test_where_nothing_can_be_said_all_items_are_ranked(monkeypatch, spoil):
    monkeypatch.setattr(ranking, "SCORES_OF_A_BLOCK", {"cuda": 9 * N})  # a user less than there are
    items, queries = whole_numbers(N, 900), whole_numbers(10, 30, seed=3)
    spoil(queries, items)
    assert candidates_of(queries, items) is None
    lists = Ranking(N, 10, PADDING)
    for _ in range(2):
        found, _ = lists.of_products([product(queries, items)], 10, None, K)
        assert np.array_equal(found.numpy(), expected(queries, items)[0])


@pytest.mark.parametrize("place", ["queries", "items"])
@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf])
def test_what_is_no_number_is_never_ranked_by_candidates(place, value):
    vectors = {"queries": whole_numbers(10, 30, seed=3), "items": whole_numbers(N, 900)}
    vectors[place][4, 2] = value
    assert candidates_of(**vectors) is None
    if value != torch.inf:
        with pytest.raises(TrainingError, match="not numbers"):
            Ranking(N, 10, PADDING).of_products([product(**vectors)], 10, None, K)


def test_where_too_few_items_are_left_for_a_user_all_are_ranked():
    items, queries = whole_numbers(N, 900), whole_numbers(10, 30, seed=3)
    bought = torch.full((N - K,), 3), torch.arange(1, N - K + 1)
    assert candidates_of(queries, items, bought) is None
    lists = Ranking(N, 10, PADDING)
    for _ in range(2):
        found, scores = lists.of_products([product(queries, items)], 10, bought, K)
        assert (found[3] >= N - K + 1).sum() == K - 1
        assert found[3, -1] == 0
        assert scores[3, -1] == -torch.inf


@pytest.mark.parametrize("change", ["in place", "another"])
def test_items_that_have_changed_are_rounded_anew(change):
    items, queries = whole_numbers(N, 900), whole_numbers(10, 30, seed=3)
    lists = Ranking(N, 10, PADDING)
    for _ in range(2):
        lists.of_products([product(queries, items)], 10, None, K)
    items = items.mul_(-1) if change == "in place" else whole_numbers(N, 900, seed=5)
    for _ in range(2):
        found, _ = lists.of_products([product(queries, items)], 10, None, K)
        assert np.array_equal(found.numpy(), expected(queries, items)[0])


def test_without_tiles_of_bf16_or_for_few_users_or_long_lists_none_are_sought(monkeypatch):
    items = whole_numbers(N, 900)
    some, found = product(whole_numbers(10, 30), items), Candidates(K * 1024 + 1, PADDING)
    assert found.are_worth_it(some, 10, K)
    assert not found.are_worth_it(some, 7, K)
    assert not found.are_worth_it(some, 10, K + 1)
    assert not Candidates(K * 1024 + 1, torch.arange(2)).are_worth_it(some, 10, K)
    monkeypatch.setattr(candidates, "multiplies_bf16", lambda: False)
    assert not found.are_worth_it(some, 10, K)
