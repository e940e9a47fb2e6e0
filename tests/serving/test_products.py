"""Lists by inner products are those by the model's own scores, of all kinds of groups; other models are told apart."""

import numpy as np
import pytest
import torch

from recbole_perpeft.evaluation.top_items import top_items
from recbole_perpeft.serving import ranking
from recbole_perpeft.serving.histories import known_histories
from recbole_perpeft.serving.products import has_products, products_of
from recbole_perpeft.serving.ranking import Ranking
from tests.matrix import quickly
from tests.training import scatter_groups, soften_at_random

GROUPS = {
    "one": {"num_groups": 1},
    "hard": {},
    "soft": {"group_softness": 0.7},
    "without content term": {"content_term": False},
}


@pytest.fixture
def model_and_rows(prepare):
    def make(model, group_softness=None, **settings):
        _, trainer, *loaders = prepare(model=model, **settings)
        ours = trainer.model.eval()
        if hasattr(ours, "item_tower"):
            if ours.num_groups > 1:
                scatter_groups(ours, loaders[0])
            if ours.item_tower.content_term is not None:
                ours.item_tower.content_term.weight.fill_(1.5)
            if group_softness:
                soften_at_random(ours, group_softness)
        return ours.eval(), known_histories([loader._dataset for loader in loaders]).rows

    return make


TILED = [(kind, tile) for tile in (64, 4096) for kind in GROUPS]


@pytest.mark.parametrize(("kind", "tile"), quickly(TILED, [*TILED[:4], ("soft", 4096)]))
def test_products_add_up_to_the_scores_and_give_the_same_lists(model_and_rows, monkeypatch, kind, tile):
    monkeypatch.setattr(ranking, "_TILE", tile)
    model, rows = model_and_rows("PerPEFTSASRec", **GROUPS[kind])
    assert has_products(model, rows[:1])
    products = products_of(model, rows)
    with torch.no_grad():
        scores = model.full_sort_predict(rows)
    summed = torch.zeros_like(scores)
    for product in products:
        summed.index_add_(0, product.rows, product.scores())
    assert torch.allclose(summed, scores, atol=1e-5)
    shut, bought = torch.tensor([0, 4, 9]), (torch.arange(len(rows)), torch.arange(len(rows)) % 20 + 1)
    by_products, found = Ranking(31, len(rows), shut).of_products(products, len(rows), bought, 6)
    by_scores, expected = Ranking(31, len(rows), shut).of_scores(scores, bought, 6)
    assert torch.equal(by_products, by_scores)
    assert torch.allclose(found, expected, atol=1e-5)


def test_blocks_of_any_size_use_the_same_memory(model_and_rows):
    model, rows = model_and_rows("SASRec")
    whole = Ranking(31, len(rows), torch.tensor([0])).of_products(products_of(model, rows), len(rows), None, 5)[0]
    kept = Ranking(31, 16, torch.tensor([0]))
    parts = [kept.of_products(products_of(model, part), len(part), None, 5)[0] for part in (rows[:16], rows[16:25])]
    assert torch.equal(torch.cat(parts), whole[:25])


@pytest.mark.parametrize("n", [63, 64, 65, 1000, 4097])
def test_the_best_of_a_long_row_are_found_by_its_maxima(n):
    generator = torch.Generator().manual_seed(n)
    queries, items = torch.randn(5, 4, generator=generator), torch.randn(n, 4, generator=generator).round(decimals=1)
    product = ranking.Product(0, torch.arange(5), (queries,), (items,))
    found, scores = Ranking(n, 5, torch.tensor([0])).of_products([product], 5, None, 12)
    every = (queries @ items.T).numpy()
    every[:, 0] = -np.inf
    assert np.allclose(scores.numpy(), -np.sort(-every, axis=1)[:, :12])
    assert np.allclose(np.take_along_axis(every, found.numpy(), axis=1), scores.numpy())


def test_equal_scores_are_ranked_as_in_the_evaluation():
    product = ranking.Product(0, torch.arange(3), (torch.ones(3, 2),), (torch.ones(1000, 2),))
    found, _ = Ranking(1000, 3, torch.tensor([0])).of_products([product], 3, None, 10)
    scores = torch.ones(3, 1000)
    scores[:, 0] = -torch.inf
    assert torch.equal(found, top_items(scores, 10))


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "NARM", "STAMP", "PerPEFTGRU4Rec"])
def test_backbones_that_multiply_are_known(model_and_rows, model):
    assert has_products(*model_and_rows(model))


@pytest.mark.parametrize(
    "model",
    ["BPR", "PerPEFTLightGCN", "PerPEFTBERT4Rec", "PerPEFTHGN", "CORE", "FPMC", "ContentNeighbours", "TransRec"],
)
def test_other_models_are_told_apart(model_and_rows, model):
    assert not has_products(*model_and_rows(model))
