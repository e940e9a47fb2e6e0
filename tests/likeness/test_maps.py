"""Maps of content against a loop over purchases, and what they learn."""

import math

import torch
from torch.nn import functional as F

from recbole_perpeft.likeness.maps import Candidates, Maps, sums_of_losses
from recbole_perpeft.likeness.purchases import Purchases

SOFTNESS = 0.3, 0.8
HISTORIES = torch.tensor([[3, 1, 5, 2, 0], [4, 0, 0, 0, 0], [6, 2, 0, 0, 0], [1, 2, 3, 4, 7]])


def make_table(n_items=30, d=6, seed=0):
    table = F.normalize(torch.randn(n_items, d, generator=torch.Generator().manual_seed(seed)))
    table[0] = 0
    return table


def loss_by_hand(table, matrix, history, target, items):
    """One purchase's loss, with nothing in common with the code but the formula."""
    vector = {item: F.normalize(table[item] @ matrix, dim=0) for item in range(1, len(table))}
    query = sum(SOFTNESS[1] ** age * vector[item] for age, item in enumerate(reversed(history)))
    query = F.normalize(query, dim=0)
    score = {item: float(query @ vector[item]) / SOFTNESS[0] for item in vector}
    others = sum(math.exp(score[item]) for item in items if item not in {*history, target})
    own = math.exp(score[target])
    return -math.log(own / (own + others * (len(table) - 1) / len(items)))


def test_every_purchase_but_the_first_is_to_be_predicted_from_those_before():
    purchases = Purchases.of(HISTORIES)
    found = [
        (row, [item for item in history if item], target)
        for row, history, target in zip(
            purchases.row_of.tolist(), purchases.histories.tolist(), purchases.targets.tolist(), strict=True
        )
    ]
    lists = [[item for item in items if item] for items in HISTORIES.tolist()]
    assert found == [(row, items[:at], items[at]) for row, items in enumerate(lists) for at in range(1, len(items))]
    assert purchases.n_users == 4


def test_losses_are_those_of_a_loop():
    table, matrix = make_table(), torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    purchases, items = Purchases.of(HISTORIES), torch.tensor([2, 9, 4, 7, 11, 20])
    found = Candidates(purchases, table, items, SOFTNESS).losses(matrix)
    expected = [
        loss_by_hand(table, matrix, [item for item in history if item], target, items.tolist())
        for history, target in zip(purchases.histories.tolist(), purchases.targets.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected))
    sums = sums_of_losses(torch.stack([matrix, torch.eye(6)]), purchases, table, items, SOFTNESS)
    by_user = [
        sum(loss for loss, row in zip(expected, purchases.row_of.tolist(), strict=True) if row == user)
        for user in range(4)
    ]
    torch.testing.assert_close(sums[:, 0], torch.tensor(by_user, dtype=torch.float))
    assert sums[1].tolist() == [0, 0]  # one purchase: nothing to predict


def test_a_map_learns_what_is_bought_together_and_the_others_stay():
    generator = torch.Generator().manual_seed(0)
    table = torch.zeros(41, 8)  # two aspects of four values each; users keep to a value of the second
    values = torch.randint(0, 4, (40, 2), generator=generator)
    table[1:] = F.normalize(torch.cat([F.one_hot(values[:, 0], 4), F.one_hot(values[:, 1], 4)], dim=1).float())
    alike = [1 + torch.nonzero(values[:, 1] == value).squeeze(1)[:6] for value in range(4)]
    purchases, items = Purchases.of(torch.stack(alike).repeat(20, 1)), torch.arange(1, 41)
    maps = Maps(torch.eye(8).repeat(2, 1, 1))
    for _ in range(30):
        maps.learn(1, purchases, table, items, SOFTNESS)
    part = Candidates(purchases, table, items, SOFTNESS)
    first, second = (part.losses(matrix).mean() for matrix in maps.matrices)
    assert torch.equal(maps.matrices[0], torch.eye(8))
    assert second < 0.8 * first
    second_aspect = maps.matrices[1].norm(dim=1)
    assert second_aspect[4:].min() > second_aspect[:4].max()


def test_a_map_that_nobody_taught_stays_where_it_was():
    maps, table, items = Maps(torch.eye(6)[None]), make_table(), torch.arange(1, 30)
    purchases = Purchases.of(HISTORIES)
    maps.learn(0, purchases, table, items, SOFTNESS)
    before = maps.matrices
    assert not torch.equal(before[0], torch.eye(6))
    maps.learn(0, purchases[:0], table, items, SOFTNESS)
    assert torch.equal(maps.matrices, before)
    assert sums_of_losses(before, purchases[:0], table, items, SOFTNESS).tolist() == [[0]] * 4
