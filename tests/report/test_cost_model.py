"""What a run is said to cost: operations and sizes against the encoder itself, and what follows from what."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPModel, ResNetConfig

from recbole_perpeft.config import Config
from recbole_perpeft.report.cost_model import costs
from recbole_perpeft.report.cost_probe import Rates, _user, measured
from recbole_perpeft.report.cost_settings import sizes_of
from recbole_perpeft.report.cost_sizes import tower_of
from recbole_perpeft.utils.errors import EncoderError

ENCODER = Path(__file__).parents[2] / "dataset" / "demo" / "encoder"
RATES = Rates(
    forward={"image": 1e-11, "text": 1e-11},
    training={"image": 2e-11, "text": 2e-11},
    picture=1e-3,
    text=1e-5,
    backbone={1: 0.02, 3: 0.01},
    user=1e-4,
    projected=1e-6,
    projected_training=3e-6,
    vectors=2e-6,
    id_row=1e-7,
    score=1e-9,
    weighed=1e-9,
    loss=1e-9,
    height=2e-9,
    added=1e-9,
)


def sizes(items=10_000, users=1000, **settings):
    settings = {"encoder": str(ENCODER), "precision": "fp32", "epochs": 4, **settings}
    return sizes_of(Config("PerPEFTSASRec", "demo", config_dict=settings), items, users, 10, 16)[0]


def parts_of(found):
    return {f"{heading}/{cost.name}": cost for heading, lines in found.items() for cost in lines}


def seconds(found, name):
    return sum(cost.seconds for key, cost in parts_of(found).items() if name in key)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_operations_and_weights_of_a_tower_are_those_of_the_model(modality):
    model = CLIPModel.from_pretrained(ENCODER, attn_implementation="eager")
    tower = sizes().towers[modality]
    if modality == "image":
        part, inputs = model.vision_model, {"pixel_values": torch.zeros(1, 3, tower.side, tower.side)}
    else:
        part, inputs = model.text_model, {"input_ids": torch.ones(1, 16, dtype=torch.long)}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        part(**inputs)
    operations = counter.get_total_flops()
    assert tower.layers * tower.layer_operations + tower.first_operations == pytest.approx(operations, rel=0.05)
    assert tower.parameters == pytest.approx(sum(p.numel() for p in part.parameters()), rel=0.03)


def test_seconds_of_the_encoder_follow_its_layers_items_and_groups():
    few, many = costs(sizes(peft_layers=1), RATES), costs(sizes(peft_layers=3), RATES)
    assert seconds(few, "Once/image states") > 5 * seconds(many, "Once/image states")
    for stage in (1, 3):
        assert seconds(few, f"steps in stage {stage}") < seconds(many, f"steps in stage {stage}")
    once, twice = costs(sizes(num_groups=1), RATES), costs(sizes(num_groups=1, items=20_000), RATES)
    assert seconds(twice, "Once/pictures") == 2 * seconds(once, "Once/pictures")
    one, eight = (seconds(costs(sizes(num_groups=number), RATES), "a validation in stage 3") for number in (1, 8))
    first = seconds(costs(sizes(num_groups=8), RATES), "a validation in stage 1")
    assert eight > one == first


def test_the_total_is_the_sum_of_its_parts():
    found = costs(sizes(global_epochs=3), RATES)
    steps = [seconds(found, f"steps in stage {stage}") for stage in (1, 3)]
    first, third = (seconds(found, f"a validation in stage {stage}") for stage in (1, 3))
    once = sum(cost.seconds for cost in found["Once"])
    # the test is a validation without the searches: of the forms, and of the weights with modules and without
    search = 1000 * (1e-4 + 10_000 * 1e-9 * (1 + 3 + 4 + 3 * 4 * 2))
    search += 1000 * (1e-4 + 10_000 * 1e-9 * (1 + 1 + 2 + 2 * 5 * 5))
    # every 16th user gives the units: of each form, of the one in use, and of content with modules and without, beside
    # the backbone and the other term
    search += 1000 / 16 * (1e-4 + 10_000 * (1e-9 + 2e-9) * ((3 + 5) + (3 + 6) + (3 + 4)))
    assert seconds(found, "In all") == pytest.approx(once + 3 * (steps[0] + first) + steps[1] + 2 * third - search)
    assert parts_of(found)["In all/4 epochs, 3 of them of stage 1, and the test"].memory == pytest.approx(
        sum(cost.memory for cost in found["Memory"])
    )


def test_soft_groups_cost_the_loss_of_every_purchase_under_every_module():
    at_once = replace(RATES, forward={"image": 0.0, "text": 0.0}, projected=0.0, vectors=0.0)
    soft, hard = (costs(sizes(soft_groups=soft), at_once) for soft in (True, False))
    scores = 8 * 10_000 * 1000 * (9 + 14 + 1)  # nine losses a user, a ranking and 13 mixtures, and a validation
    passes = 8 * 1000 * 3  # over what a user bought
    calls = 2 * 8 * 8 * 1e-3  # twice, users of each group under each module
    assert seconds(soft, "Once/") - seconds(hard, "Once/") == pytest.approx(scores * 1e-9 + passes * 1e-4 + calls)


def test_groups_by_likeness_are_found_by_some_purchases_and_predict_those_of_all_users():
    def grouping(users, grouping="likeness"):
        return seconds(costs(sizes(users=users, grouping=grouping), RATES), "Once/the grouping")

    least, some, many = (grouping(users) for users in (1000, 4000, 1_000_000))
    of_all = 9 * 8 * 2 * 1024 * 1e-9  # of a user: nine purchases, eight groups, both halves, among drawn items
    assert many - some == pytest.approx(996_000 * of_all)
    assert some - least > 3000 * of_all  # 9,000 purchases are fewer than those by which groups are found
    assert least - grouping(1000, "coherence") > 10 * 1000 * of_all


def test_soft_groups_have_all_items_encoded_again():
    soft, hard = (seconds(costs(sizes(soft_groups=soft), RATES), "Once/") for soft in (True, False))
    at_once = replace(RATES, forward={"image": 0.0, "text": 0.0}, projected=0.0, vectors=0.0)
    without = [seconds(costs(sizes(soft_groups=soft), at_once), "Once/") for soft in (True, False)]
    moving = {"regroup_epochs": 1}  # else a validation also asks which group predicts what users bought
    eight, one = (seconds(costs(sizes(**moving), RATES), f"a validation in stage {stage}") for stage in (3, 1))
    of_a_group = 8 / 7 * (eight - one)  # with what calls cost, which is little here
    assert (soft - hard) - (without[0] - without[1]) == pytest.approx(of_a_group, rel=0.02)


def test_batches_are_of_one_group_and_no_more_than_it_has_are_encoded_together():
    whole, grouped = (sizes(users=1000, batches_per_encoding=8).batches(groups) for groups in (1, 8))
    assert (whole.number, whole.users, whole.together) == (16, 64, 8)  # of 1,000 users
    assert (grouped.number, grouped.users, grouped.together) == (16, 64, 2)  # of 8 times 125
    assert whole.items == grouped.items
    assert grouped.encoded < whole.encoded < 4 * grouped.encoded
    tiny = sizes(users=100, num_groups=64).batches(64)
    assert (tiny.number, tiny.users) == (64, 2)


def test_an_epoch_of_many_batches_encodes_the_catalogue_five_times_at_most_in_the_memory_of_eight_batches():
    paper = sizes(items=15_701, users=25_363)
    whole, grouped = (paper.batches(groups) for groups in (1, 8))
    eight = sizes(items=15_701, users=25_363, batches_per_encoding=8).batches(1)
    assert (whole.number, whole.together) == (397, 80)
    assert 4.5 < whole.number / whole.together * whole.encoded / 15_701 <= 5
    assert eight.number / eight.together * eight.encoded / 15_701 > 13
    assert (grouped.number, grouped.together) == (400, 50)  # all of a group
    assert 2.7 < grouped.number / grouped.together * grouped.encoded / 15_701 <= 3
    assert whole.share == 1 > 2 * grouped.share
    assert whole.kept == grouped.kept == eight.encoded
    assert eight.kept is None
    assert sizes(items=15_701, users=25_363, encoding_batch_size=512).batches(1).kept == 512
    assert sizes().batches(1).kept is None


def test_what_was_last_computed_is_in_memory_where_a_share_of_the_items_is_encoded_and_not_if_it_is_too_large():
    def of(items, users, **settings):
        sized = sizes(items, users, **settings)
        return sized.batches(8).share, parts_of(costs(sized, RATES))["Memory/features as last computed"].memory

    width = sizes().compared_width
    share, memory = of(15_701, 25_363)
    assert share < 0.8
    assert memory == 2 * 15_701 * width * 8
    assert of(15_701, 25_363, personalised_by="group_projector") == (share, memory / 8)
    for settings in ({"batches_per_encoding": 50}, {"eval_step": 0}):
        assert of(15_701, 25_363, **settings)[1] == 0
    assert of(20_000, 500) == (1, 0)
    assert of(1_500_000, 3_000_000)[1] == 0


def test_searches_read_every_so_many_th_user():
    frozen = {"peft_type": "NONE"}  # of which items are compared in one way

    def searched(users):
        fast, slow = (
            seconds(costs(sizes(users=users, **frozen), replace(RATES, weighed=weighed)), "a validation in stage 1")
            for weighed in (1e-9, 2e-9)
        )
        return round((slow - fast) / (1e-9 * 10_000))

    rounds = [(1000, 1000), (2000, 2000), (3000, 3000), (3000, 6000)]
    expected = [of_forms * 3 * 4 * 2 + of_weights * 5 * 5 for of_forms, of_weights in rounds]
    assert [searched(users) for users in (1000, 2000, 3000, 150_000)] == expected


def test_a_validation_weighs_all_candidates_of_both_terms():
    fast, slow = (seconds(costs(sizes(), replace(RATES, weighed=weighed)), "in stage 1") for weighed in (1e-9, 3e-9))
    assert slow - fast == pytest.approx(
        2e-9 * 1000 * 10_000 * (3 * 4 * 2 + 2 * 5 * 5)
    )  # forms of both and two weights; weights of both, with and without modules


def test_the_first_search_has_a_round_more_and_goes_over_all_twice():
    fast, slow = (seconds(costs(sizes(), replace(RATES, weighed=weighed)), "first search") for weighed in (1e-9, 3e-9))
    of_the_round = 14 * 3 + 8 * 4 + 11  # shares and decays; dampings; factors
    assert slow - fast == pytest.approx(2e-9 * 1000 * 10_000 * (of_the_round + 3 * 4 * 2 + 2 * 5 * 5))
    assert seconds(costs(sizes(purchase_term=False), RATES), "first search") == 0


def test_a_term_alone_has_the_backbone_scored_once():
    """Which a search over few users, whose scores are kept, has too."""
    alone = {"items": 1_000_000, "users": 100_000, "purchase_term": False}
    fast, slow = (
        seconds(costs(sizes(**alone), replace(RATES, user=user)), "a validation in stage 1") for user in (1e-4, 2e-4)
    )
    assert slow - fast == pytest.approx(1e-4 * (100_000 + 100_000 / 67 + 64))  # ranked, searched, for the units


def test_a_validation_asks_every_module_for_some_users_purchases():
    def asked(groups, users, **settings):
        fast, slow = (
            seconds(
                costs(sizes(users=users, num_groups=groups, **settings), replace(RATES, loss=loss)),
                f"a validation in stage 3, {groups} groups",
            )
            for loss in (1e-9, 2e-9)
        )
        return round((slow - fast) / (1e-9 * 4096))

    assert asked(4, 1000) == 4 * 1000 * 9
    assert asked(4, 100_000) == 4 * 2**14
    assert asked(4, 1000, soft_groups=False) == asked(4, 1000, regroup_epochs=2) == 0


def test_portions_take_time_for_memory():
    (whole, in_portions) = (costs(sizes(encoding_batch_size=size), RATES) for size in (None, 64))
    assert seconds(in_portions, "steps in stage 3") > seconds(whole, "steps in stage 3")
    assert parts_of(in_portions)["Memory/a step"].memory < parts_of(whole)["Memory/a step"].memory


def test_tables_that_are_too_large_for_memory_are_on_disk():
    small, large = (costs(sizes(items=items), RATES) for items in (10_000, 1_000_000))
    assert parts_of(small)["Once/vectors of the content term"].disk == 0
    assert (
        parts_of(large)["Once/vectors of the content term"].disk == 9 * 1_000_000 * 4 * 192
    )  # LoRA: of each group, and without
    assert parts_of(large)["Memory/item tables in use"].memory == 1_000_000 * 4 * 64


def test_what_is_given_replaces_what_is_measured():
    wanted = sizes(users=200, items=2000)
    given = measured(wanted, torch.float32, tflops=0.5)
    assert given.forward == {"image": 2e-12, "text": 2e-12}
    here = measured(wanted, torch.float32, tflops=None)
    assert all(here.training[modality] > here.forward[modality] > 0 for modality in ("image", "text"))
    numbers = [getattr(here, field.name) for field in fields(Rates) if field.type is float]
    assert len(numbers) == 12
    assert min(*numbers, *here.backbone.values()) > 0
    assert here.projected < here.projected_training
    assert replace(here, forward={}, training={}).text == given.text


def test_an_encoder_that_is_no_transformer_is_refused():
    with pytest.raises(EncoderError, match="image_encoder: ResNetConfig has no number hidden_size: the cost of"):
        tower_of(ResNetConfig(), "image", 16, None, "image_encoder")


def test_positions_that_a_ranking_reads_are_those_of_users_histories():
    rng = np.random.default_rng(0)
    lengths = 1 + rng.geometric(1 / 9, size=20_000)  # of 10 on average
    read = [next(n for n in (8, 16, 32, 50) if n >= min(length, 50)) for length in lengths]
    found = sizes(MAX_ITEM_LIST_LENGTH=50).read_lengths
    assert list(found) == [8, 16, 32, 50]
    assert sum(found.values()) == pytest.approx(1)
    assert sum(length * share for length, share in found.items()) == pytest.approx(np.mean(read), rel=0.1)
    assert sizes(MAX_ITEM_LIST_LENGTH=5).read_lengths == {5: 1.0}


def test_short_histories_make_long_lists_no_dearer():
    short, long, full = (
        _user(replace(sizes(MAX_ITEM_LIST_LENGTH=length), purchases=purchases))
        for length, purchases in ((16, 5), (256, 5), (256, 2000))
    )
    assert long < 2 * short  # a fifth of the users has more than 8
    assert full > 8 * long


def test_items_near_one_are_those_that_users_bought_beside_it():
    wanted, rng = sizes(users=300, items=400), torch.Generator().manual_seed(0)
    bought = torch.randint(0, 400, (300, 10), generator=rng).tolist()
    near = [set().union(*(own for own in bought if item in own)) - {item} for item in range(400)]
    assert wanted.near_items == pytest.approx(sum(map(len, near)) / 400, rel=0.1)
    assert sizes(users=10**6, items=10**4).near_items == 256  # no more are counted
