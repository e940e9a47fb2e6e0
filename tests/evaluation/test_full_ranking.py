"""Full ranking in blocks: what the loader gives, what the collector finds, and evaluation at long intervals."""

import math

import numpy as np
import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator.collector import Collector

from benchmarks import ranking as benchmark
from recbole_perpeft.data import item_lists
from recbole_perpeft.data.eval_dataloader import FullRankingLoader
from recbole_perpeft.evaluation.collector import RankingCollector
from recbole_perpeft.evaluation.top_items import top_items
from recbole_perpeft.utils.errors import TrainingError
from tests.matrix import slow
from tests.training import same, scripted

TOP_K_METRICS = ["NDCG", "Recall", "Hit", "MRR", "MAP", "Precision"]
LIST_METRICS = ["ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage"]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of eleven users of the tiny data's 31 items."""
    monkeypatch.setattr(item_lists, "SCORES_OF_A_BLOCK", {"cpu": 11 * 31 + 30})
    monkeypatch.setattr(item_lists, "LEAST_ROWS", 8)


def in_turn(model, n=3):
    """Put the users into ``n`` groups by turns, and let the groups see different things."""
    model.user_groups[1:] = torch.arange(model.user_groups.numel() - 1) % n
    torch.manual_seed(1)
    with torch.no_grad():
        for group in range(n):
            for parameter in model.item_tower.group_parameters(group):
                parameter.add_(0.3 * torch.randn_like(parameter))


def rows(loader):
    """Of every block: users, and each user's masked and positive items."""
    blocks = []
    for interaction, history, positive_u, positive_i in loader:
        users = interaction["user_id"].tolist()
        content = {user: (set(), set()) for user in users}
        pairs = [] if history is None else list(zip(history[0].tolist(), history[1].tolist(), strict=True))
        for row, item in pairs:
            content[users[row]][0].add(item)
        for row, item in zip(positive_u.tolist(), positive_i.tolist(), strict=True):
            content[users[row]][1].add(item)
        blocks.append((users, content))
    return blocks


def merged(blocks):
    return {user: items for _, content in blocks for user, items in content.items()}


# -- loader ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_blocks_are_as_large_as_the_budget_and_spread_evenly(prepare, small_blocks, model):
    _, _, _, valid_data, _ = prepare(model=model)
    blocks = rows(valid_data)
    assert [len(users) for users, _ in blocks] == [10, 10, 10, 10]  # 40 users
    assert len(valid_data) == 4
    assert sorted(user for users, _ in blocks for user in users) == list(range(1, 41))


def test_eval_batch_size_bounds_the_blocks(prepare):
    _, _, _, valid_data, _ = prepare(eval_batch_size=20)
    assert [len(users) for users, _ in rows(valid_data)] == [20, 20]


def test_a_catalogue_beyond_the_budget_is_ranked_for_a_few_users_at_a_time(prepare, monkeypatch):
    monkeypatch.setattr(item_lists, "SCORES_OF_A_BLOCK", {"cpu": 5})
    monkeypatch.setattr(item_lists, "LEAST_ROWS", 8)
    _, _, _, valid_data, _ = prepare()
    assert [len(users) for users, _ in rows(valid_data)] == [8] * 5


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_ordered_blocks_hold_one_group_and_give_every_user_the_same(prepare, small_blocks, model):
    _, _, _, _, test_data = prepare(model=model)
    before = merged(rows(test_data))
    groups = np.random.default_rng(0).integers(3, size=41)
    test_data.order_by(groups)
    blocks = rows(test_data)
    assert all(len(set(groups[users])) == 1 for users, _ in blocks)
    assert len(test_data) == len(blocks) == sum(math.ceil(n / 11) for n in np.bincount(groups[1:]))
    assert merged(blocks) == before
    assert len(before) == 40


def test_a_general_model_gets_what_recboles_own_loader_gives(prepare):
    # most of the purchases are held out, so that users have several positives
    settings = {"split": {"RS": [0.4, 0.3, 0.3]}, "order": "RO", "group_by": "user", "mode": "full"}
    _, trainer, _, valid_data, test_data = prepare(model="BPR", eval_args=settings)
    for loader in (valid_data, test_data):
        assert isinstance(loader, FullRankingLoader)
        own = FullSortEvalDataLoader(trainer.config, loader._dataset, loader._sampler)
        assert merged(rows(loader)) == merged(rows(own))
        assert max(len(positives) for _, positives in merged(rows(loader)).values()) > 1


# -- collector ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(30, 5), (799, 20), (2003, 20), (2000, 50)])
def test_the_best_items_are_those_of_topk(n, k):
    generator = torch.Generator().manual_seed(n)
    scores = torch.randn(9, n, generator=generator)
    scores[:, 0] = -torch.inf
    scores[3, : n - k - 2] = -torch.inf
    scores[4, -k:] += 10  # what the fold leaves over
    scores[5, ::10] += 10
    assert torch.equal(top_items(scores, k), scores.topk(k).indices)


def test_all_that_is_left_is_found_where_fewer_than_k_items_are_left():
    scores = torch.full((2, 2003), -torch.inf)
    scores[:, [5, 1000, 2002]] = torch.tensor([1.0, 3.0, 2.0])
    assert top_items(scores, 20).tolist() == [[1000, 2002, 5] + [0] * 17] * 2


@pytest.mark.parametrize("k", [1, 20, 40])
def test_equal_scores_are_ranked_in_one_random_order_of_the_items(k):
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.integers(4, size=(50, 2003))).float()
    scores[:, :100] = -torch.inf
    scores[3, 200:] = -torch.inf
    scores[4] = torch.from_numpy(rng.permutation(2003)).float()  # no two alike
    order = torch.randperm(2003, generator=torch.Generator().manual_seed(0)).numpy()
    expected = [np.lexsort((order, -row))[:k] for row in scores.numpy()]
    assert top_items(scores, k).tolist() == np.array(expected).tolist()


def test_a_score_that_is_no_number_is_never_a_good_rank(tiny):
    scores = torch.rand(7, 900)
    scores[5, 700] = torch.nan
    arguments = None, torch.arange(7), torch.full((7,), 700)
    for metric in ("NDCG@10", "GAUC"):
        collector = RankingCollector(tiny(metrics=[metric.removesuffix("@10")], valid_metric=metric))
        with pytest.raises(TrainingError, match="1 of 6300 scores are not numbers"):
            collector.eval_batch_collect(scores.clone(), *arguments)


@pytest.mark.parametrize(("metrics", "keys"), [
    (TOP_K_METRICS, ["rec.topk"]),
    (LIST_METRICS, ["rec.items"]),
    (TOP_K_METRICS + LIST_METRICS, ["rec.topk", "rec.items"]),
    (["GAUC", "NDCG"], ["rec.meanrank", "rec.topk"]),
])  # fmt: skip
@pytest.mark.parametrize("n_items", [40, 2500])
def test_the_collector_finds_what_recboles_finds(tiny, metrics, keys, n_items):
    config = tiny(metrics=metrics, valid_metric=f"{metrics[-1]}@10")
    ours, own = RankingCollector(config), Collector(config)
    rng = np.random.default_rng(0)
    for n_users in (13, 1, 8):
        scores = torch.from_numpy(rng.permuted(np.tile(np.arange(n_items), (n_users, 1)), axis=1)).float()
        scores[:, 0] = -torch.inf
        positives = [rng.choice(np.arange(1, n_items), size=rng.integers(1, 7), replace=False) for _ in range(n_users)]
        users = np.repeat(np.arange(n_users), [len(items) for items in positives])
        order = rng.permutation(len(users) + 2)  # in any order, and two of them twice
        users, items = (np.r_[values, values[:2]][order] for values in (users, np.concatenate(positives)))
        scores[torch.from_numpy(users[::2]), torch.from_numpy(items[::2])] += n_items  # or hardly any would be hit
        arguments = scores, None, torch.from_numpy(users), torch.from_numpy(items)
        ours.eval_batch_collect(*arguments)
        own.eval_batch_collect(*arguments)
    expected, struct = own.get_data_struct(), ours.get_data_struct()
    for key in keys:
        assert torch.equal(struct.get(key), expected.get(key)), key
        assert len(struct.get(key)) == 22
    assert not ours.get_data_struct()._data_dict  # nothing is left for the next evaluation


def test_metrics_of_the_recommended_lists_are_given_after_every_epoch(prepare):
    metrics = [*TOP_K_METRICS, *LIST_METRICS]
    _, trainer, train_data, valid_data, test_data = prepare(metrics=metrics, epochs=2, global_epochs=1)
    trainer.fit(train_data, valid_data, verbose=False)
    result = trainer.evaluate(test_data)
    assert len(result) == 2 * len(metrics)
    recommended = set()
    for interaction, history, *_ in test_data:
        with torch.no_grad():
            scores = trainer.model.full_sort_predict(interaction)
        scores[:, 0] = scores[history] = -torch.inf
        recommended |= set(scores.argsort(descending=True)[:, :5].flatten().tolist())
    assert result["itemcoverage@5"] == pytest.approx(len(recommended) / 30, abs=1e-4)


# -- groups ---------------------------------------------------------------------------------------------------------


def test_the_size_and_order_of_blocks_do_not_change_a_metric(prepare, monkeypatch):
    results = []
    for scores in (5, 7 * 31, 10**6):
        monkeypatch.setattr(item_lists, "SCORES_OF_A_BLOCK", {"cpu": scores})
        _, trainer, _, _, test_data = prepare(metric_decimal_place=9)
        in_turn(trainer.model)
        with monkeypatch.context() as unordered:
            unordered.setattr(FullRankingLoader, "order_by", lambda *_: None)
            results.append(trainer.evaluate(test_data))
        results.append(trainer.evaluate(test_data))
    assert all(result == pytest.approx(results[0], abs=1e-8) for result in results)
    assert 0 < results[0]["recall@10"] < 1


def test_a_block_of_one_group_is_scored_in_one_piece(prepare):
    _, trainer, _, valid_data, _ = prepare()
    model = trainer.model.eval()
    in_turn(model)
    valid_data.order_by(model.user_groups.numpy())
    parts = []
    original = type(model).__mro__[2].full_sort_predict  # SASRec's
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(model).__mro__[2],
            "full_sort_predict",
            lambda self, part: parts.append((len(part), original(self, part))) or parts[-1][1],
        )
        for interaction, *_ in valid_data:
            scores = model.full_sort_predict(interaction)
            assert scores.data_ptr() == parts[-1][1].data_ptr()
    assert [n for n, _ in parts] == [len(users) for users, _ in rows(valid_data)]


def test_items_are_encoded_for_the_groups_of_the_evaluated_users_only(prepare):
    _, trainer, _, valid_data, _ = prepare()
    model = trainer.model
    users = [user for block, _ in rows(valid_data) for user in block]
    model.user_groups[1:] = 1
    model.user_groups[users[0]] = 2  # and nobody is left in group 0
    encoder = model.item_tower.encoder
    before = encoder.items_encoded
    trainer.evaluate(valid_data)
    assert encoder.items_encoded - before == 2 * 30
    model.user_groups[users] = 2
    model.item_tower.forget()
    trainer.evaluate(valid_data)
    assert encoder.items_encoded - before == 3 * 30


# -- validation at intervals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "validated", "best"),
    [
        ({"epochs": 6, "global_epochs": 3, "eval_step": 2}, [1, 2, 3, 5], 3),  # a stage's last epoch always is
        slow({"epochs": 7, "global_epochs": 3, "eval_step": 2}, [1, 2, 3, 5, 6], 3),
        ({"epochs": 6, "global_epochs": 2, "eval_step": 3}, [1, 2, 5], 5),  # stage 1 is shorter than eval_step
        slow({"epochs": 6, "global_epochs": 2, "eval_step": 100}, [1, 5], 5),  # and stage 3 too
    ],
)
def test_the_best_validated_epoch_is_kept_whatever_eval_step(prepare, settings, validated, best):
    _, trainer, train_data, valid_data, test_data = prepare(**settings)
    scores = {1: 1, 2: 2, 3: 5, 5: 4, 6: 3}
    scripted(trainer, [scores[epoch] for epoch in validated])
    states = {}

    def keep(epoch, score):
        states[epoch] = {key: value.clone() for key, value in trainer.model.state_dict().items()}

    trainer.fit(train_data, valid_data, verbose=False, callback_fn=keep)
    assert list(states) == validated
    assert trainer.best_epoch == best
    trainer.evaluate(test_data)
    assert same(trainer.model.state_dict(), states[best])


# -- benchmark ------------------------------------------------------------------------------------------------------


def test_the_benchmark_checks_itself_and_gives_a_ratio(tmp_path, capsys):
    words = "--users 60 --items 900 --hidden 16 --loop_users 20 --repeats 2 --threads 1 --json"
    benchmark.main([*words.split(), str(tmp_path / "ranking.json")])
    assert (tmp_path / "ranking.json").is_file()
    assert "ratio" in capsys.readouterr().out
