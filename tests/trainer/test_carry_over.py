"""Yesterday's state on today's users and items, held against what each token's rows were."""

import pytest
import torch

from recbole_perpeft import quick_start
from recbole_perpeft.model.catalogue_axes import catalogue_axes
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.trainer.carry_over import Places, carry_over, tokens_of
from recbole_perpeft.utils.errors import MisfitError
from tests.day2 import GONE_ITEM, NEW_ITEMS, ids_of, write_today

# tables of users, of items with a mask token, several side by side, weights with a column for each item, a graph
MODELS = [
    "PerPEFTSASRec", "PerPEFTBERT4Rec", "PerPEFTFPMC", "PerPEFTMacridVAE", "PerPEFTLightGCN",
]  # fmt: skip


@pytest.fixture(scope="session")
def today_root(tmp_path_factory, tiny_root):
    return write_today(tmp_path_factory.mktemp("today"), tiny_root)


@pytest.fixture
def both(tiny, today_root):
    """``both(**settings)``: trainers and loaders of then and of now, of which nothing is trained."""

    def make(**settings):
        then = quick_start.prepare(tiny(**settings))
        return then, quick_start.prepare(tiny(**settings, data_path=str(today_root)))

    return make


def numbered(model):
    """A state in which no two numbers are equal, of users who are in no groups yet."""
    state, at = model.state_dict(), 0
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = torch.arange(at, at + value.numel(), dtype=torch.float32).view(value.shape)
            at += value.numel()
    return state


@pytest.mark.parametrize("model", MODELS)
def test_each_row_of_a_user_or_an_item_is_where_today_has_the_token(both, model):
    (then_data, then, *_), (dataset, now, train, *_) = both(model=model)
    state, fresh = numbered(then.model), now.model.state_dict()
    carried = carry_over(state, {**then.checkpoint.tokens, "untrained": []}, now.model, train._dataset)
    assert carried.keys() == fresh.keys()
    sizes = {field: (then_data.num(field), dataset.num(field)) for field in ("user_id", "item_id")}
    moved = set()
    for key, value in carried.items():
        assert value.shape == fresh[key].shape
        resized = [dim for dim, size in enumerate(value.shape) if size != state[key].shape[dim]]
        if not resized:
            assert torch.equal(value, state[key])
            continue
        (dim,), shape = resized, state[key].shape
        (field,) = [field for field, (was, _) in sizes.items() if 0 <= shape[dim] - was <= 1]
        moved.add(field)
        of_then = ids_of(then_data, field)
        for token, number in ids_of(dataset, field).items():
            row = value.select(dim, number)
            if token in of_then:
                assert torch.equal(row, state[key].select(dim, of_then[token]))
            elif key == "item_tower.id_embedding.weight":
                assert not row.any()
            else:
                assert torch.equal(row, fresh[key].select(dim, number))
        if shape[dim] > sizes[field][0]:  # the mask token's
            assert torch.equal(value.select(dim, -1), state[key].select(dim, -1))
    assert moved == {"user_id", "item_id"}


def test_what_counts_items_is_asked_of_the_model_and_not_of_sizes(both):
    _, (_, now, train, *_) = both(
        model="PerPEFTMacridVAE", encoder_hidden_size=[32]
    )  # as many as items, padding included
    assert now.model.n_items == 32
    axes = catalogue_axes(now.model, now.config, train._dataset)
    state = now.model.state_dict()
    square = next(key for key, value in state.items() if tuple(value.shape) == (32, 32) and "encoder" in key)
    assert axes[square] == {1: "items"}
    assert not any("bias" in key for key in axes)


def test_as_many_users_as_items_are_told_apart(both):
    _, (_, now, train, *_) = both(model="PerPEFTBPR", user_sample=31)
    assert now.model.n_users == now.model.n_items
    axes = catalogue_axes(now.model, now.config, train._dataset)
    assert axes["user_embedding.weight"] == {0: "users"}
    assert axes["item_tower.id_embedding.weight"] == {0: "items"}


@pytest.mark.parametrize("grouping", ["kmeans", "coherence", "likeness"])
def test_groups_go_with_the_users_and_the_rule_knows_no_new_item(both, grouping):
    settings = {"grouping": grouping, "group_negatives": False, "num_groups": 2}
    (_, then, before, *_), (dataset, now, train, *_) = both(**settings)
    then.groups.find(before)
    state = then.model.state_dict()
    ids = {**then.checkpoint.tokens, "untrained": []}
    now.model.load_state_dict(carry_over(state, ids, now.model, train._dataset))
    of_then = dict(zip(ids["users"], then.model.user_groups.tolist(), strict=True))
    found = dict(zip(tokens_of(dataset)["users"], now.model.user_groups.tolist(), strict=True))
    assert found == {token: of_then.get(token, -1) for token in found}
    items, rule = ids_of(dataset, "item_id"), now.model.group_rule
    unknown = (~getattr(rule, rule.of_items).any(dim=1)).nonzero().flatten().tolist()
    assert unknown == sorted([0, *(items[item] for item in NEW_ITEMS)])
    old = [items[item] for item in ids["items"][1:4] if item != GONE_ITEM]
    histories = torch.tensor([[items["j0"], *old, items["j1"]], [items["j0"], items["j1"], *[0] * len(old)]])
    assert rule.known(histories).tolist() == [[*old, 0, 0], [0] * (2 + len(old))]
    # users who trained come back to their groups by the rule, by what they had bought then
    now.model.eval()
    users, again = ids_of(dataset, "user_id"), {}
    for user, bought in before.histories.items():
        tokens = [ids["items"][item] for item in bought]
        if ids["users"][user] in users and GONE_ITEM not in tokens:
            history = torch.tensor([[items[token] for token in tokens]])
            name = ids["users"][user]
            again[name] = int(now.model.groups_of_new(torch.tensor([users[name]]), history))
    assert len(again) > 20
    assert again == {name: of_then[name] for name in again}


def test_an_item_that_nobody_trained_on_has_no_id_part(both):
    (_, then, *_), (dataset, now, train, *_) = both()
    untrained = then.checkpoint.tokens["items"][4:6]
    carried = carry_over(
        then.model.state_dict(), {**then.checkpoint.tokens, "untrained": untrained}, now.model, train._dataset
    )
    rows = carried["item_tower.id_embedding.weight"]
    zeros = {token for token, number in ids_of(dataset, "item_id").items() if not rows[number].any()}
    assert zeros == {*NEW_ITEMS, *untrained}


def test_a_state_of_no_common_item_or_of_other_shapes_is_refused(both, prepare):
    (_, then, *_), (_, now, train, *_) = both()
    ids = {**then.checkpoint.tokens, "untrained": []}
    others = ["[PAD]", *(f"x{number}" for number in range(30))]
    with pytest.raises(MisfitError, match="None of the 31 items of today .* is among the 30 of the checkpoint"):
        carry_over(then.model.state_dict(), {**ids, "items": others}, now.model, train._dataset)
    _, wider, *_ = prepare(hidden_size=32)
    with pytest.raises(MisfitError, match=r"position_embedding.weight has the shape \[8, 32\] in the checkpoint, now"):
        carry_over(wider.model.state_dict(), ids, now.model, train._dataset)
    _, other, *_ = prepare(model="PerPEFTGRU4Rec")
    with pytest.raises(MisfitError, match="only one of the two has "):
        carry_over(other.model.state_dict(), ids, now.model, train._dataset)


def test_places_of_tokens():
    places = Places.of(["[PAD]", "a", "b", "c"], ["[PAD]", "c", "d", "a", "e"])
    assert (places.then.tolist(), places.now.tolist()) == ([0, 3, 1], [0, 1, 3])
    assert (places.n_new, places.n_gone, places.new().tolist()) == (2, 1, [2, 4])
    assert [rows.tolist() for rows in places.along(1)] == [[0, 3, 1, 4], [0, 1, 3, 5]]


def test_a_checkpoint_tells_its_users_and_items(recorded):
    run = recorded()
    ids = checkpoint_file.read(run.checkpoint(3))["ids"]
    assert ids["users"][0] == ids["items"][0] == "[PAD]"
    assert sorted(ids["items"][1:]) == sorted(f"i{number}" for number in range(30))
    assert ids["untrained"] == [ids["items"][item] for item in run.trainer.model.item_tower.untrained]
