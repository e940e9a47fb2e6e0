"""The end of a run: popularity, the global model, groups, best epochs, time left, against independent calculations."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from recbole import data as recbole_data

from recbole_perpeft.config import Config
from recbole_perpeft.evaluation.popularity import popularity_scorer, purchase_counts
from recbole_perpeft.evaluation.ranked_rows import model_scorer, ranked_rows
from recbole_perpeft.evaluation.top_items import top_items
from recbole_perpeft.quick_start import load, run
from recbole_perpeft.quick_start import prepare as prepare_run
from recbole_perpeft.report.next_steps import next_steps
from recbole_perpeft.report.progress import Progress
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.utils.stopwatch import Stopwatch, in_words
from tests.tiny_data import WORDS, random_sequences
from tests.training import by_predict

# with which stage 3 beats stage 1 on random purchases
GROUPS_PAY = {"seed": 9, "batches_per_encoding": 4, "l2_emb": 0.1}
SAMPLED = {"mode": "uni20", "split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}


def gain(rank, k=10):
    """NDCG@k of one target."""
    return 1 / np.log2(rank + 1) if rank <= k else 0.0


def most_bought_first(counts):
    """Item ids, equal counts in the order of all rankings; row 0 is padding."""
    chance = top_items(torch.zeros(1, len(counts)), len(counts))[0].tolist()
    return [item for item in sorted(range(len(counts)), key=lambda item: (-counts[item], chance.index(item))) if item]


@pytest.mark.parametrize(
    ("model", "mask"), [("PerPEFTSASRec", True), ("SASRec", True), ("SASRec", False), ("BPR", True)]
)
def test_popularity_is_that_of_counting_by_hand(tiny, model, mask):
    config = tiny(
        model=model, mask_history=mask, epochs=1, global_epochs=1, loss_type="CE" if "SAS" in model else "BPR"
    )
    result = run(config_dict=config.settings())
    dataset = prepare_run(config)[0]
    ids, sequences = dataset.field2token_id["item_id"], random_sequences()[0].values()
    counts = np.zeros(dataset.item_num)
    for items in sequences:
        for item in items[:-2]:
            counts[ids[item]] += 1
    order, gains = most_bought_first(counts), []
    for *before, target in ([ids[item] for item in items] for items in sequences):
        ranked = [item for item in order if not mask or item not in before]
        gains.append(gain(ranked.index(target) + 1))
    assert result["popularity_result"]["ndcg@10"] == pytest.approx(np.mean(gains), abs=1e-4)
    assert result["popularity_result"].keys() == result["test_result"].keys()
    assert result["training_purchases"] == counts.sum()
    assert (result["users_ranked"], result["items_ranked"]) == (40, 30)


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_purchases_are_counted_alike_in_data_of_recbole(tiny, model):
    config = tiny(model=model, loss_type="CE" if model == "SASRec" else "BPR")
    theirs = recbole_data.create_dataset(config).build()[0]
    ours = prepare_run(config)[2]._dataset
    counted = [
        dict(zip(data.field2id_token["item_id"], purchase_counts(data).tolist(), strict=True))
        for data in (theirs, ours)  # each with ids of its own
    ]
    assert counted[0] == counted[1]
    assert not hasattr(theirs, "training_sequences")


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_popularity_ranks_the_candidates_that_a_sampled_evaluation_drew(tiny, model):
    config = tiny(model=model, eval_args=SAMPLED, loss_type="CE" if model == "SASRec" else "BPR")
    _, _, train_data, _, test_data = prepare_run(config)
    counts = purchase_counts(train_data._dataset)
    order, gains = most_bought_first(counts), []
    for interaction, rows, positive_u, positive_i in by_predict(test_data):
        for row, target in zip(positive_u.tolist(), positive_i.tolist(), strict=True):
            drawn = set(interaction["item_id"][rows == row].tolist())
            gains.append(gain([item for item in order if item in drawn].index(target) + 1))
    found = ranked_rows(config, train_data, test_data, popularity_scorer(counts, "item_id"))
    assert found.metrics(config)["ndcg@10"] == pytest.approx(np.mean(gains), abs=1e-4)
    assert sorted(found.users) == list(range(1, 41))


def test_a_run_with_groups_says_whether_they_paid(tiny, capfd):
    result = run(config_dict=tiny(**GROUPS_PAY).settings())
    said = re.sub(r"\x1b\[[\d;]*m", "", capfd.readouterr().err)
    json.dumps(result)  # plain numbers
    assert result["best_stage"] == 3
    assert result["best_epoch"] == result["stages"][3]["best_epoch"] >= 2
    assert result["stages"][3]["best_valid_score"] == result["best_valid_score"]
    assert result["stages"][1]["best_valid_score"] < result["best_valid_score"]
    # groups are parts of the whole
    sizes = np.array([[group["users"], group["tested"]] for group in result["groups"]])
    assert sizes.sum(axis=0).tolist() == [40, 40]
    weighted = sum(group["test"] * group["tested"] for group in result["groups"]) / 40
    assert weighted == pytest.approx(result["test_result"]["ndcg@10"], abs=1e-4)
    weighted = sum(group["global"] * group["tested"] for group in result["groups"]) / 40
    assert weighted == pytest.approx(result["global_result"]["ndcg@10"], abs=1e-4)
    # what went on takes time
    seconds = result["seconds"]
    parts = [
        "data",
        "encoder and content",
        "stage 1",
        "validation",
        "grouping",
        "stage 3",
        "test",
        "comparison",
        "rest",
    ]
    assert list(seconds) == ["all", *parts]
    assert seconds["all"] == pytest.approx(sum(seconds[part] for part in parts))
    # one screen
    report = said.split("Summary")[1]
    for text in ("best epoch", "stage 1: ", "stage 3: ", "global model", "popularity", "group 2", "40 users, 30 items"):
        assert text in report
    assert "compare --dataset tiny --model PerPEFTSASRec" in report
    beaten = result["popularity_result"]["ndcg@10"] > result["test_result"]["ndcg@10"]
    assert ("Popularity beats PerPEFTSASRec on the test purchases" in report) == beaten
    assert re.search(r"epoch 0 training \[.*\] epoch 1 of 4, about \d+ s left in stage 1", said)
    assert re.search(r"epoch 3 training \[.*\] epoch 4 of 4", said)
    # the global model's test is that of a run that ends with stage 1
    alone = run(config_dict=tiny(**GROUPS_PAY, epochs=2).settings())
    assert alone["test_result"] == result["global_result"] != result["test_result"]
    assert alone["best_valid_score"] == result["stages"][1]["best_valid_score"]
    assert alone["groups"] == []
    # a run that goes on with it knows what stage 1 reached, and what it would reach in the test
    file = said.split("checkpoint ")[1].split(",")[0]
    again = run(config_dict=tiny(**GROUPS_PAY, resume=file).settings())
    for key in ("stages", "best_epoch", "best_stage", "groups", "test_result", "popularity_result", "global_result"):
        assert again[key] == result[key], key
    # the checkpoint of a build that did not keep stage 1's state
    state = checkpoint_file.read(file)
    del state["stage_1_state_dict"]
    checkpoint_file.write(file, state)
    older = run(config_dict=tiny(**GROUPS_PAY, resume=file).settings())
    assert older["global_result"] is None
    assert "global" not in older["groups"][0]
    assert "global model: not known" in capfd.readouterr().err


def test_a_resumed_run_knows_what_stage_3_reached(tiny):
    settings = {
        **GROUPS_PAY,
        "seed": 3,
        "peft_learning_rate": 3.0,
        "learning_rate": 0.5,
        "epochs": 6,
        "global_epochs": 2,
    }
    result = run(config_dict=tiny(**settings).settings())
    assert result["best_stage"] == 1
    assert result["stages"][3]["best_epoch"] >= 2
    assert result["stages"][3]["best_valid_score"] < result["best_valid_score"]
    again = run(config_dict=tiny(**settings, resume=result["checkpoint"]).settings())
    assert again["stages"] == result["stages"]


def test_each_group_is_told_what_single_modules_would_score(tiny):
    """Scores by modules are those of evaluations in which all users are in one group."""
    result = run(config_dict=tiny(**GROUPS_PAY, soft_groups=False).settings())
    _, trainer, _, _, test_data = load(result["checkpoint"])
    model, by_module = trainer.model, []
    groups = model.user_groups.clone()
    for module in range(3):
        model.user_groups[1:] = module
        with torch.no_grad(), model_scorer(trainer, test_data) as score:
            gains = {}
            for batch in test_data:
                interaction, scores, rows, items = score(batch)
                for row, item in zip(rows.tolist(), items.tolist(), strict=True):
                    gains[int(interaction["user_id"][row])] = gain(int((scores[row] > scores[row, item]).sum()) + 1)
        by_module.append(gains)
    for number, group in enumerate(result["groups"]):
        users = [user for user in range(1, 41) if groups[user] == number]
        own = np.mean([by_module[number][user] for user in users])
        assert group["own"] == group["test"] == pytest.approx(own, abs=1e-4)
        turns = [(number + 1) % 3, (number + 2) % 3] * 20
        others = np.mean([by_module[module][user] for module, user in zip(turns, users, strict=False)])
        assert group["others"] == pytest.approx(others, abs=1e-4)


def test_what_groups_buy_is_named(tiny, capfd):
    result = run(config_dict=tiny(**GROUPS_PAY, epochs=3).settings())
    said = capfd.readouterr().err
    for group in result["groups"]:
        assert set(group["words"]) <= set(WORDS)
        assert ", ".join(group["words"]) in said
    assert "explain saved/" in said


def test_the_best_epoch_of_a_built_in_model(tiny, capfd):
    result = run(config_dict=tiny(model="SASRec", loss_type="CE", epochs=5).settings())
    scores = [float(score) for score in re.findall(r"valid_score\S*: ([\d.]+)", capfd.readouterr().err)]
    assert len(scores) == 5
    assert scores[result["best_epoch"]] == max(scores) == result["best_valid_score"]
    assert list(result["seconds"]) == ["all", "data", "model", "training", "validation", "test", "comparison", "rest"]


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "BPR"])
def test_the_next_command_has_the_settings_of_the_run(tiny, model):
    config = tiny(model=model, loss_type="BPR", learning_rate=1e-5, eval_args=SAMPLED, weight_decay=0)
    trainer = prepare_run(config)[1]
    command = next(step for step in next_steps(config, trainer, saved=True) if " compare " in step)
    words = [word for word in shlex.split(command) if word.startswith("--") and "=" in word]
    again = Config(model, "tiny", command_line=words).settings()
    of_this_run = {"seed", "checkpoint_dir", "show_progress", "resume"}
    assert {key: again[key] for key in again if key not in of_this_run} == {
        key: value for key, value in config.settings().items() if key not in of_this_run
    }


def test_the_next_command_has_nothing_that_follows_from_the_rest(tiny):
    config = tiny(peft_type="NONE", epochs=6, global_epochs=3)
    command = next(step for step in next_steps(config, prepare_run(config)[1], saved=True) if " compare " in step)
    assert "--peft_type=NONE" in command
    assert "--epochs=6" in command
    assert "global_epochs" not in command


@pytest.mark.parametrize(("stopping_step", "at_most"), [(10, ""), (2, "at most ")])
def test_time_left_by_a_scripted_clock(tiny, stopping_step, at_most):
    trainer = prepare_run(tiny(model="SASRec", loss_type="CE", epochs=40, stopping_step=stopping_step))[1]
    now = [0.0]

    def epoch(seconds, gives):
        def pass_time(*args, **kwargs):
            now[0] += seconds
            return gives

        return pass_time

    trainer._train_epoch, trainer._valid_epoch = epoch(20, 1.0), epoch(10, (0.5, {"ndcg@10": 0.5}))
    watch = Stopwatch(lambda: now[0])
    progress = Progress(trainer, watch)
    trainer._train_epoch(None, 30)
    # nine trainings are left
    assert (
        progress.where(30)
        == f"epoch 31 of 40, {'at most ' if stopping_step < 9 else ''}about 3 min left, validations not counted"
    )
    trainer._valid_epoch(None)
    trainer._train_epoch(None, 31)
    # eight trainings and nine validations: 160 s and 90 s
    line = trainer._generate_train_loss_output(31, 0, 20, 1.0)
    assert line.endswith(f"] epoch 32 of 40, {at_most}about 4 min left")
    trainer._train_epoch(None, 39)
    assert progress.where(39) == "epoch 40 of 40, about 10 s left"
    now[0] += 5
    assert watch.seconds() == {"all": 75, "training": 60, "validation": 10, "rest": 5}
    assert [in_words(seconds) for seconds in (89, 300, 7800)] == ["89 s", "5 min", "2 h 10 min"]
