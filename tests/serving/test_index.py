"""Lists by an index: those by all scores where it looks at all items, filters, what is measured and refused."""

import pytest
import torch

from recbole_perpeft.serving import index
from recbole_perpeft.serving.index import ItemIndex
from recbole_perpeft.serving.opening import Opened
from recbole_perpeft.serving.products import Product
from recbole_perpeft.serving.ranking import Ranking
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.utils.errors import RequestError
from tests.training import scatter_groups, soften_at_random

pytest.importorskip("faiss")


@pytest.fixture
def opened(prepare):
    def make(model="PerPEFTSASRec", group_softness=None, **settings):
        _, trainer, *loaders = prepare(model=model, **settings)
        if model.startswith("PerPEFT"):
            scatter_groups(trainer.model, loaders[0])
            trainer.model.item_tower.content_term.weight.fill_(2.0)
            if group_softness:
                soften_at_random(trainer.model, group_softness)
        return Recommender(Opened.of(trainer.config, trainer.model, [loader._dataset for loader in loaders]))

    return make


@pytest.mark.parametrize("settings", [{}, {"group_softness": 0.5}])
def test_with_all_items_as_candidates_lists_are_the_same(opened, settings):
    recommender = opened(**settings)
    requests = [{}, {"seen": True}, {"deny": ["i3", "i4", "i5"]}, {"where": {"brand": "3"}, "k": 1, "seen": True}]
    expected = [recommender.recommend(recommender.users, **{"k": 6, **request}) for request in requests]
    report = recommender.use_index(candidates=40, k=6)
    assert report.recall == 1
    assert (report.k, report.users, report.groups) == (6, 40, 3)
    for request, lists in zip(requests, expected, strict=True):
        found = recommender.recommend(recommender.users, **{"k": 6, **request})
        assert found.item_id.equals(lists.item_id)
        assert torch.allclose(torch.tensor(found.score), torch.tensor(lists.score), atol=1e-5)
    assert len(recommender.recommend_new([["i1", "i2"]], k=5)) == 5


def test_where_too_few_candidates_are_left_all_scores_are_gone_through(opened):
    recommender = opened()
    expected = recommender.recommend(recommender.users[:5], k=20)
    recommender.use_index(candidates=4, k=3)
    assert recommender.recommend(recommender.users[:5], k=20).item_id.equals(expected.item_id)


def test_recall_is_the_share_that_is_found_of_the_best():
    generator = torch.Generator().manual_seed(3)
    items, queries = torch.randn(2001, 16, generator=generator), torch.randn(50, 16, generator=generator)
    items *= torch.exp(torch.randn(2001, 1, generator=generator))  # of very different lengths
    product = Product(0, torch.arange(50), (queries,), (items,))
    graphs = ItemIndex(30)
    report = graphs.build([product], 50, 10)
    found, _ = graphs.best([product], 50, torch.tensor([0]), None, 10)
    best, _ = Ranking(2001, 50, torch.tensor([0])).of_products([product], 50, None, 10)
    same = [len(set(a) & set(b)) for a, b in zip(found.tolist(), best.tolist(), strict=True)]
    assert report.recall == pytest.approx(sum(same) / 500)
    assert report.recall > 0.8
    assert ItemIndex(300).build([product], 50, 10).recall > report.recall


def test_candidates_beyond_the_catalogue_and_small_portions_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    items, queries = torch.randn(101, 16, generator=generator), torch.randn(50, 16, generator=generator)
    product = Product(0, torch.arange(50), (queries,), (items,))
    assert ItemIndex(10**9).build([product], 50, 10).recall == 1  # a table of so many candidates fits in no memory
    found, scores = ItemIndex(30).best([product], 50, torch.tensor([0]), None, 10)
    monkeypatch.setattr(index, "_GATHERED", 1000)
    again, same = ItemIndex(30).best([product], 50, torch.tensor([0]), None, 10)
    assert torch.equal(again, found)
    assert torch.allclose(same, scores)


def test_what_has_no_index(opened):
    with pytest.raises(RequestError, match="BPR has no index: its scores are not inner products"):
        opened("BPR").use_index()
    with pytest.raises(RequestError, match="candidates: 0 is no number"):
        opened("SASRec").use_index(candidates=0)
