"""Splits, masks and filters, for RecBole's own models and ours alike."""

import numpy as np
import pytest
from recbole.data.dataset import SequentialDataset

from recbole_perpeft.data.preparation import SequenceDataset, create_dataset
from recbole_perpeft.quick_start import run
from recbole_perpeft.utils.errors import DataError
from tests.matrix import quickly
from tests.tiny_data import random_sequences, write_atomic, write_purchases
from tests.tiny_runs import TINY

SEQUENTIAL, GENERAL = ["PerPEFTSASRec", "SASRec", "GRU4Rec"], ["BPR", "LightGCN"]


def external(dataset, field, ids):
    return [str(token) for token in dataset.field2id_token[field][ids]]


@pytest.mark.parametrize("model", SEQUENTIAL + GENERAL)
@pytest.mark.parametrize("mask", [True, False])
def test_each_user_is_asked_for_his_last_purchase_with_what_he_bought_before_masked(prepare, model, mask):
    dataset, _, _, valid_data, test_data = prepare(model=model, mask_history=mask)
    sequences, _ = random_sequences()
    for loader, held_out in ((valid_data, -2), (test_data, -1)):
        seen = 0
        for interaction, history, positive_u, positive_i in loader:
            users = external(dataset, "user_id", interaction["user_id"].numpy())
            targets = external(dataset, "item_id", positive_i.numpy())
            assert positive_u.tolist() == list(range(len(users)))
            assert targets == [sequences[user][held_out] for user in users]
            masked = {row: set() for row in range(len(users))}
            if history is not None:
                for row, item in zip(history[0].tolist(), external(dataset, "item_id", history[1]), strict=True):
                    masked[row].add(item)
            expected = [set(sequences[user][:held_out]) if mask else set() for user in users]
            assert [masked[row] for row in range(len(users))] == expected
            seen += len(users)
        assert seen == len(sequences)


@pytest.mark.parametrize("model", quickly(SEQUENTIAL + GENERAL, ["PerPEFTSASRec", "BPR"]))
def test_masking_changes_the_score(tiny, model):
    # without validation both test the same model, and nobody's target can fall by a mask
    settings = {"epochs": 2, "global_epochs": 1, "group_negatives": False, "eval_step": 0}
    masked, unmasked = (
        run(config_dict=tiny(model=model, mask_history=mask, **settings).settings(), saved=False)
        for mask in (True, False)
    )
    assert masked["test_result"]["hit@10"] >= unmasked["test_result"]["hit@10"]
    assert masked["test_result"] != unmasked["test_result"]


def repeating(tmp_path):
    sequences, items = random_sequences()
    sequences["u0"] = ["i1", "i2", "i1", "i3", "i4", "i2", "i5"]
    write_atomic(tmp_path, "repeats", sequences, items)
    return str(tmp_path)


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_the_first_purchase_of_an_item_is_kept(tiny, tmp_path, model):
    dataset = create_dataset(tiny(model=model, dataset="repeats", data_path=repeating(tmp_path)))
    rows = dataset.inter_feat[dataset.inter_feat["user_id"] == dataset.token2id("user_id", "u0")]
    kept = external(dataset, "item_id", rows.sort_values("timestamp")["item_id"].to_numpy())
    assert kept == ["i1", "i2", "i3", "i4", "i5"]


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "SASRec", "BPR"])
def test_kept_repeats_are_never_masked(tiny, tmp_path, model):
    path = repeating(tmp_path)
    with pytest.raises(DataError, match="mask_history: True with 2 repeat purchases.*Set rm_dup_inter: first"):
        create_dataset(tiny(model=model, dataset="repeats", data_path=path, rm_dup_inter=None))
    dataset = create_dataset(
        tiny(model=model, dataset="repeats", data_path=path, rm_dup_inter=None, mask_history=False)
    )
    assert dataset.inter_num == sum(map(len, random_sequences()[0].values())) - len(random_sequences()[0]["u0"]) + 7


def test_users_of_fewer_than_four_purchases_are_left_out(tiny, tmp_path):
    sequences, items = random_sequences()
    sequences["few"] = ["i1", "i2", "i3"]
    write_atomic(tmp_path, "short", sequences, items)
    dataset = create_dataset(tiny(dataset="short", data_path=str(tmp_path)))
    assert "few" not in dataset.field2token_id["user_id"]


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_user_sample_keeps_the_same_users_for_every_model(tiny, model):
    def users(**settings):
        dataset = create_dataset(tiny(model=model, user_sample=10, **settings))
        return set(dataset.field2id_token["user_id"][1:])

    assert len(users()) == 10
    assert users() == users()
    assert users() == users(seed=1) != users(sample_seed=1)
    other = create_dataset(tiny(model="GRU4Rec", user_sample=10))
    assert users() == set(other.field2id_token["user_id"][1:])


def broken(tmp_path, text):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.inter").write_text(text)
    return {"dataset": "bad", "data_path": str(tmp_path)}


def test_data_that_cannot_be_used_says_which_file_and_what_to_do(tiny, tmp_path, tiny_root):
    (tiny_root / "scripts").mkdir(exist_ok=True)
    with pytest.raises(DataError, match="nowhere does not exist. Data sets there: (?!.*scripts).*tiny"):
        create_dataset(tiny(dataset="nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty.inter does not exist"):
        create_dataset(tiny(dataset="empty", data_path=str(tmp_path)))
    settings = broken(tmp_path, "user_id:token\titem:token\ttimestamp:float\nu\ti\t1\n")
    with pytest.raises(DataError, match=r"bad.inter has no column 'item_id' \(ITEM_ID_FIELD\).*or set ITEM_ID_FIELD"):
        create_dataset(tiny(**settings))


def test_a_filter_that_leaves_nothing_names_the_filters(tiny):
    with pytest.raises(DataError, match=r"user_inter_num_interval: \[100,inf\)"):
        create_dataset(tiny(user_inter_num_interval="[100,inf)"))


def test_histories_hold_items_beyond_the_longest_sequence(prepare):
    _, _, train_data, valid_data, _ = prepare(MAX_ITEM_LIST_LENGTH=2)
    sequences, _ = random_sequences()
    total = sum(len(history[1]) for _, history, _, _ in valid_data)
    assert total == sum(len(items) - 2 for items in sequences.values())
    assert sum(map(len, train_data.histories.values())) == total
    assert TINY["MAX_ITEM_LIST_LENGTH"] > 2


def test_item_columns_are_not_loaded_by_default_and_can_be(tiny, tiny_root):
    assert create_dataset(tiny()).item_feat is None
    wide = create_dataset(tiny(load_col={"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}))
    assert "title" in wide.item_feat
    assert np.isin(create_dataset(tiny()).field2id_token["item_id"], wide.field2id_token["item_id"]).all()


def test_presplit_files_are_refused_for_sequential_models(tiny, tmp_path):
    place = write_atomic(tmp_path, "split", *random_sequences())
    (place / "split.part1.inter").write_text((place / "split.inter").read_text())
    settings = {"dataset": "split", "data_path": str(tmp_path), "benchmark_filename": ["part1"]}
    with pytest.raises(DataError, match=r"benchmark_filename: \['part1'\] splits split beforehand"):
        create_dataset(tiny(**settings))


@pytest.mark.parametrize("length", [1, 3, 50])
def test_prefixes_are_those_of_recboles_own_loop_whatever_the_columns(tiny, tmp_path, length):
    sequences, items = random_sequences()
    place = write_atomic(tmp_path, "wide", {**sequences, "once": ["i1"]}, items)
    header, *rows = (place / "wide.inter").read_text().splitlines()
    rows = [f"{row}\t{number % 5}\tt{number % 3} t{number % 7}\t{number}.5 1 2" for number, row in enumerate(rows)]
    header += "\trating:float\ttags:token_seq\tvector:float_seq"
    (place / "wide.inter").write_text("\n".join([header, *rows]) + "\n")
    settings = {"dataset": "wide", "data_path": str(tmp_path), "MAX_ITEM_LIST_LENGTH": length}
    settings |= {"load_col": None, "user_inter_num_interval": None}
    ours = create_dataset(tiny(**settings))

    class Loop(SequenceDataset):
        def _augment(self, starts):
            SequentialDataset.data_augmentation(self)

    theirs = Loop(tiny(**settings))
    for dataset in (ours, theirs):
        dataset._change_feat_format()
    assert len(ours.inter_feat) == sum(len(items) - 1 for items in sequences.values())
    assert set(ours.inter_feat.columns) == set(theirs.inter_feat.columns) > {"tags_list", "vector_list", "rating_list"}
    for field in theirs.inter_feat.columns:
        assert ours.inter_feat[field].dtype == theirs.inter_feat[field].dtype
        assert ours.inter_feat[field].equal(theirs.inter_feat[field]), field
        assert ours.field2seqlen[field] == theirs.field2seqlen[field]


def test_lists_made_of_each_part_are_those_made_of_all_rows(tiny):
    whole, split = create_dataset(tiny(MAX_ITEM_LIST_LENGTH=3)), create_dataset(tiny(MAX_ITEM_LIST_LENGTH=3))
    whole._change_feat_format()
    parts, rows = split.build(), whole.inter_feat
    place = {key: row for row, key in enumerate(zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True))}
    assert sum(len(part) for part in parts) == len(rows) == len(place)
    assert min(len(part) for part in parts) > 0
    for part in parts:
        own = part.inter_feat
        where = [place[key] for key in zip(own["user_id"].tolist(), own["item_id"].tolist(), strict=True)]
        assert list(own.columns) == list(rows.columns)
        for field in rows.columns:
            assert own[field].dtype == rows[field].dtype
            assert own[field].equal(rows[field][where]), field


def test_a_selected_feature_that_the_items_lack_is_named(tiny):
    with pytest.raises(DataError, match=r"tiny\.item has no column 'class' \(selected_features\).*title, brand"):
        create_dataset(tiny(model="PerPEFTSASRecF"))


def test_filters_say_what_they_took(tiny, tmp_path, caplog):
    sequences, items = random_sequences()
    sequences |= {f"few{number}": ["i1", "i2", "i1"] for number in range(50)}
    write_atomic(tmp_path, "short", sequences, items)
    caplog.set_level("INFO")
    create_dataset(tiny(model="Pop", dataset="short", data_path=str(tmp_path)))
    total = sum(map(len, sequences.values()))
    assert f"rm_dup_inter: first took 0 of 90 users, 0 of 30 items and 50 of {total} purchases." in caplog.text
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.message == (
        f"user_inter_num_interval: [4,inf) took 50 of 90 users, 0 of 30 items and 100 of {total - 50} purchases. "
        "That is more than half of the users."
    )
    assert f"Left after filtering: 40 users, 30 items, {total - 150} purchases." in caplog.text


@pytest.mark.parametrize("model", ["Pop", "ItemKNN", "FM"])
def test_samples_and_masks_hold_for_models_of_every_kind(prepare, caplog, model):
    negatives = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}} if model == "FM" else {}
    caplog.set_level("INFO")
    sampled = {}
    for mask in (True, False):
        settings = {"user_sample": 20, "mask_history": mask, **negatives}
        dataset, _, _, valid_data, test_data = prepare(model=model, **settings)
        histories = [history for loader in (valid_data, test_data) for _, history, _, _ in loader]
        assert all((history is not None) == mask for history in histories)
        sampled[mask] = set(dataset.field2id_token["user_id"][1:])
        assert (len(valid_data._users), len(test_data._users)) == (20, 20)
    assert sampled[True] == sampled[False]
    assert len(sampled[True]) == 20
    assert "user_sample: kept 20 of 40 users, drawn with sample_seed 2020. They bought" in caplog.text


def test_purchases_without_a_user_and_others_without_an_item_are_left_out(tiny_root, tiny, tmp_path):
    lines = (tiny_root / "tiny" / "tiny.inter").read_text().splitlines()
    rows = [*lines[1:20], "NA\ti1\t99", *lines[20:40], "u1\tNA\t99", *lines[40:]]
    write_purchases(tmp_path, "holes", rows)
    settings = {"model": "SASRec", "dataset": "holes", "data_path": str(tmp_path)}
    dataset = create_dataset(tiny(**settings))
    users, items = (dataset.inter_feat[field].tolist() for field in ("user_id", "item_id"))
    kept = zip(dataset.id2token("user_id", users), dataset.id2token("item_id", items), strict=True)
    assert sorted(kept) == sorted(tuple(line.split("\t")[:2]) for line in lines[1:])
