"""Lists of items: scores as in the evaluation, all that is known of users, filters, new users, and what is refused."""

import numpy as np
import pytest
import torch
from recbole.utils.case_study import full_sort_scores, full_sort_topk

from recbole_perpeft import quick_start
from recbole_perpeft.grouping.assignment import stage_2_groups
from recbole_perpeft.serving.catalogue import Catalogue
from recbole_perpeft.serving.list_options import ListOptions
from recbole_perpeft.serving.opening import Opened
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.utils.errors import RequestError, SettingError
from tests.training import scatter_groups

MODELS = ("PerPEFTSASRec", "PerPEFTBERT4Rec", "PerPEFTLightGCN", "SASRec", "BPR", "ContentNeighbours")
PARTS = slice(2, 5)


@pytest.fixture
def opened(prepare):
    """``opened(model, before_test)`` gives a recommender, and the trainer and loaders that it is of."""

    def make(model="PerPEFTSASRec", before_test=False, **settings):
        _, trainer, *loaders = prepare(model=model, **settings)
        if model.startswith("PerPEFT"):
            scatter_groups(trainer.model, loaders[0])
        parts = [loader._dataset for loader in loaders]
        return Recommender(Opened.of(trainer.config, trainer.model, parts), before_test), trainer, loaders

    return make


def bought_by(root, user):
    """A user's purchases, from the file."""
    lines = (root / "tiny" / "tiny.inter").read_text().splitlines()[1:]
    return [item for name, item, _ in (line.split("\t") for line in lines) if name == user]


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_of_the_evaluation_and_of_the_case_study(opened, model):
    recommender, trainer, (_, _, test_data) = opened(model, before_test=True)
    dataset = test_data._dataset
    users = recommender.users
    ids = dataset.token2id(dataset.uid_field, users)
    ours = recommender.scores(users)
    study = full_sort_scores(ids, trainer.model, test_data)
    ranked = study.isfinite()
    ranked[:, 0] = False
    assert torch.allclose(ours[ranked], study[ranked], atol=1e-6)
    same_rows = dataset.inter_feat if test_data.is_sequential else test_data.user_df
    order = torch.tensor([same_rows[dataset.uid_field].tolist().index(user) for user in ids])
    assert torch.equal(ours, trainer.model.full_sort_predict(same_rows[order]).view(len(users), -1))
    # RecBole's lists, of the general models, for which it masks what was bought
    if not test_data.is_sequential:
        _, best = full_sort_topk(ids[:5], trainer.model, test_data, k=4)
        lists = recommender.recommend(users[:5], k=4)
        assert lists.item_id.tolist() == dataset.id2token(dataset.iid_field, best.flatten()).tolist()


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "PerPEFTSimpleX", "PerPEFTLightGCN", "SASRec"])
def test_lists_before_the_test_have_the_recall_of_the_test(opened, model):
    recommender, trainer, (_, _, test_data) = opened(model, before_test=True)
    result = trainer.evaluate(test_data, load_best_model=False)
    lists = recommender.recommend(recommender.users, k=10)
    dataset = test_data._dataset
    held_out = zip(*(dataset.inter_feat[f].numpy() for f in (dataset.uid_field, dataset.iid_field)), strict=True)
    names = [(dataset.id2token(dataset.uid_field, user), dataset.id2token(dataset.iid_field, item))
             for user, item in held_out]  # fmt: skip
    found = set(zip(lists.user_id, lists.item_id, strict=True))
    assert np.mean([pair in found for pair in names]) == pytest.approx(result["recall@10"])


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "SASRec", "PerPEFTLightGCN"])
def test_all_purchases_are_known_and_none_is_recommended(opened, tiny_root, model):
    recommender, *_ = opened(model)
    lists = recommender.recommend(recommender.users, k=15)
    for user, items in lists.groupby("user_id").item_id:
        assert not set(items) & set(bought_by(tiny_root, user))
    assert len(lists) == 15 * len(recommender.users)
    assert lists.score.to_numpy().reshape(-1, 15)[:, :-1].min() > -np.inf
    assert (np.diff(lists.score.to_numpy().reshape(-1, 15)) <= 0).all()


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "GRU4Rec", "PerPEFTHGN"])
def test_the_newest_purchase_counts(opened, tiny_root, model):
    recommender, trainer, (_, _, test_data) = opened(model)
    dataset = test_data._dataset
    user = recommender.users[3]
    items = dataset.token2id(dataset.iid_field, bought_by(tiny_root, user))
    sequence = torch.zeros(1, 8, dtype=torch.long)
    sequence[0, : len(items[-8:])] = torch.from_numpy(items[-8:])
    number = int(dataset.token2id(dataset.uid_field, user))
    row = {"user_id": torch.tensor([number]), "item_id_list": sequence, "item_length": (sequence > 0).sum(1)}
    expected = trainer.model.full_sort_predict(type(dataset.inter_feat)(row))
    assert torch.equal(recommender.scores([user]), expected.view(1, -1))


def test_lists_of_times_go_on_with_the_newest_purchase(opened):
    recommender, _, (_, _, test_data) = opened("SASRec")
    dataset, rows = test_data._dataset, recommender._histories.rows
    before = dataset.inter_feat
    for row in range(len(before)):
        user, length = before["user_id"][row], int(before["item_length"][row])
        later = rows[recommender._histories.users.searchsorted(int(user))]
        times = before["timestamp_list"][row][:length].tolist() + [before["timestamp"][row].item()]
        assert later["timestamp_list"][: min(length + 1, 8)].tolist() == times[-8:]


def test_a_new_user_with_the_purchases_of_a_known_one_gets_their_list(opened, tiny_root):
    recommender, trainer, (train_data, *_) = opened(grouping="coherence")
    groups = stage_2_groups(trainer.model, train_data)[1]
    assert len(set(groups.tolist())) > 1
    trainer.model.user_groups.fill_(-1)  # all by the rule
    users = recommender.users[:7]
    known = recommender.recommend(users, k=6, group=True)
    new = recommender.recommend_new([bought_by(tiny_root, user) for user in users], k=6, group=True)
    columns = ["item_id", "score", "group", "rank"]
    assert new[columns].equals(known[columns])
    assert new.user_id.unique().tolist() == [str(number) for number in range(7)]


def test_a_new_user_is_the_mean_of_all_to_a_backbone_that_learns_users(opened):
    recommender, trainer, (_, _, test_data) = opened("HGN")
    table = trainer.model.user_embedding.weight.detach().clone()
    recommender.recommend_new([["i3", "i4"]])
    assert torch.equal(trainer.model.user_embedding.weight[1:], table[1:])
    assert torch.allclose(trainer.model.user_embedding.weight[0], table[1:].mean(dim=0))


def test_filters(opened, tiny_root):
    recommender, *_ = opened()
    user = recommender.users[0]
    own = bought_by(tiny_root, user)
    free = [f"i{number}" for number in range(30) if f"i{number}" not in own]
    everything = recommender.recommend([user], k=len(free)).item_id.tolist()
    assert set(everything) == set(free)
    assert recommender.recommend([user], k=3, allow=free[:3]).item_id.tolist() == [
        i for i in everything if i in free[:3]
    ]
    assert recommender.recommend([user], k=np.int64(2)).item_id.tolist() == everything[:2]
    denied = recommender.recommend([user], k=5, deny=everything[:4]).item_id.tolist()
    assert denied == everything[4:9]
    again = recommender.recommend([user], k=30, seen=True).item_id.tolist()
    assert set(again) == set(free) | set(own)
    assert [item for item in again if item not in own] == everything
    brand = [item for item in everything if item[-1] in "37"]
    assert recommender.recommend([user], k=len(brand), where={"brand": ["3", "7"]}).item_id.tolist() == brand


def test_what_is_told_of_an_item_and_of_the_user(opened, tiny_root):
    recommender, trainer, _ = opened()
    lists = recommender.recommend(recommender.users[:6], k=2, columns=["title", "brand"], group=True)
    assert list(lists.columns) == ["user_id", "rank", "item_id", "score", "title", "brand", "group"]
    rows = (line.split("\t") for line in (tiny_root / "tiny" / "tiny.item").read_text().splitlines()[1:])
    titles = {item: title for item, title, _ in rows}
    assert lists.title.tolist() == [titles[item] for item in lists.item_id]
    ids = trainer.model.user_groups[torch.arange(1, 41)].tolist()
    groups = dict(zip((str(t) for t in recommender._dataset.field2id_token["user_id"][1:]), ids, strict=True))
    assert lists.group.tolist() == [groups[user] for user in lists.user_id]


def test_blocks_of_all_users_are_the_lists_of_each(opened):
    recommender, trainer, _ = opened()
    recommender.config["eval_batch_size"] = 7
    blocks = list(recommender.blocks(k=3, group=True))
    assert len(blocks) == 6
    together = {user: items.tolist() for block in blocks for user, items in block.groupby("user_id").item_id}
    alone = recommender.recommend(recommender.users, k=3)
    assert together == {user: items.tolist() for user, items in alone.groupby("user_id").item_id}
    groups = [block.group.tolist() for block in blocks]
    assert sum(groups, []) == sorted(sum(groups, []))


def test_a_checkpoint_is_opened(tiny, recorded):
    run = recorded()
    file = run.checkpoint(run.validated[-1])
    recommender = Recommender.load(file, before_test=True)
    _, trainer, *_, test_data = quick_start.load(file)
    ids = test_data._dataset.token2id("user_id", recommender.users)
    study = full_sort_scores(ids, trainer.model, test_data)
    assert torch.equal(recommender.scores(recommender.users)[:, 1:], study[:, 1:])


def test_where_nothing_can_be_written_is_named(tiny, recorded, tmp_path, monkeypatch):
    run = recorded()
    file = (tmp_path / run.checkpoint(run.validated[-1])).resolve()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "log_tensorboard").write_text("a file, where nothing can be made")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(SettingError, match="log_tensorboard in .*elsewhere, cannot be made"):
        Recommender.load(file)


def test_columns_that_lists_have_themselves_are_refused():
    catalogue = Catalogue(["[PAD]", "i1", "i2"], ["rank"], lambda names: {"i1": {"rank": "7"}})
    with pytest.raises(RequestError, match="lists have a column 'rank' of their own"):
        ListOptions(columns=["rank"]).told(catalogue)
    assert ListOptions(where={"rank": 7}).allowed(catalogue).tolist() == [False, True, False]


REFUSED = {
    "user": (lambda r: r.recommend(["u1", "u99"]), "Unknown user 'u99'"),
    "one text": (lambda r: r.recommend("u1"), "'u1' is one text"),
    "nobody": (lambda r: r.recommend([]), "No user is given"),
    "item": (lambda r: r.recommend(["u1"], deny=["i7", "i77"]), "Unknown item 'i77'"),
    "new user's item": (lambda r: r.recommend_new([["i1", "x"]]), "Unknown item 'x'"),
    "empty history": (lambda r: r.recommend_new([["i1"], []]), "History 1 is empty"),
    "no history": (lambda r: r.recommend_new([]), "No history is given"),
    "k": (lambda r: r.recommend(["u1"], k=30), "k: 30 items are more than the"),
    "by no group": (lambda r: r.recommend(["u1"], by_group=3), "by_group: 3 does not exist: give one of 0 to 2"),
    "no k": (lambda r: r.recommend(["u1"], k=0), "k: 0 is no number of items"),
    "half a k": (lambda r: r.recommend(["u1"], k=2.5), "k: 2.5 is no number of items"),
    "no mapping": (lambda r: r.recommend(["u1"], where=["brand"]), "is no mapping"),
    "k of new users": (lambda r: r.recommend_new([["i1"], ["i2", "i3"]], k=29), "28 that are left for user '1'"),
    "column": (lambda r: r.recommend(["u1"], columns=["tilte"]), "Did you mean 'title'"),
    "columns as a text": (lambda r: r.recommend(["u1"], columns="title"), "'title' is one text"),
    "scores of nobody": (lambda r: r.scores(["u99"]), "Unknown user 'u99'"),
    "where": (lambda r: r.recommend(["u1"], where={"brand": "Q"}), "no item has brand 'Q'; there is '0', '1'"),
    "nothing left": (lambda r: r.recommend(["u1"], allow=["i1"], deny=["i1"]), "No item is left"),
    "blocks": (lambda r: next(r.blocks(k=29)), "k: 29 items are more"),
}  # fmt: skip


@pytest.mark.parametrize("settings", [{}, {"content_term": True, "soft_groups": True}, {"model": "PerPEFTLightGCN"}])
def test_lists_by_one_group_are_those_of_users_who_are_all_in_it(opened, settings):
    recommender, *_ = opened(**settings)
    users, model = recommender.users, recommender.model
    if hasattr(model, "group_softness"):
        model.group_softness.fill_(0.5)
    own = recommender.recommend(users, k=4)
    lists = [recommender.recommend(users, k=4, by_group=group) for group in range(3)]
    told = recommender.recommend(users[:6], k=4, by_group=1, group=True)
    assert told.group.tolist() == model.user_groups[1:7].repeat_interleave(4).tolist()  # the users' own
    assert recommender.recommend(users, k=4).equals(own)
    if hasattr(model, "group_softness"):
        model.group_softness.fill_(0)
    for group, theirs in enumerate(lists):
        model.user_groups.fill_(group)
        expected = recommender.recommend(users, k=4)
        assert theirs.item_id.tolist() == expected.item_id.tolist()
        assert np.allclose(theirs.score, expected.score, atol=1e-5)
    assert len({tuple(theirs.item_id) for theirs in lists}) == 3


def test_history_is_what_was_bought(opened, tiny_root):
    recommender, *_ = opened()
    assert recommender.history("u3") == bought_by(tiny_root, "u3")


def test_arrays_are_the_tables_columns(opened):
    recommender, *_ = opened()
    asked = {"k": 3, "columns": ["title"], "group": True}
    histories = [["i1"], ["i2", "i3"]]
    (known,) = recommender.lists(["u1", "u2"], **asked)
    (new,) = recommender.lists_new(histories, **asked)
    tables = recommender.recommend(["u1", "u2"], **asked), recommender.recommend_new(histories, **asked)
    for arrays, table in zip((known, new), tables, strict=True):
        assert list(arrays) == list(table.columns)
        assert all((values == table[name]).all() for name, values in arrays.items())


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(opened, kept, case):
    recommender = kept.setdefault("recommender", None) or opened()[0]
    kept["recommender"] = recommender
    request, message = REFUSED[case]
    with pytest.raises(RequestError, match=message.replace("?", r"\?")):
        request(recommender)


def test_general_models_know_no_new_users_and_models_without_groups_tell_none(opened):
    recommender, *_ = opened("BPR")
    with pytest.raises(RequestError, match="BPR knows users by what it learnt"):
        recommender.recommend_new([["i1"]])
    with pytest.raises(RequestError, match="BPR has no groups"):
        recommender.recommend(["u1"], group=True)
    with pytest.raises(RequestError, match="BPR has no groups"):
        recommender.recommend(["u1"], by_group=0)
