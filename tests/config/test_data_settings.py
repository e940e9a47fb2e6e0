"""Settings about the data that cannot act are refused by name; columns that settings name are loaded."""

import pytest

from recbole_perpeft.data.preparation import create_dataset, data_preparation
from recbole_perpeft.utils.errors import DataError, SettingError
from tests.tiny_data import random_sequences, write_atomic, write_purchases

RATED = "user_id:token\titem_id:token\ttimestamp:float\trating:float\tdevice:token"
PARTS = {"benchmark_filename": ["train", "valid", "test"]}


def rated(tmp_path):
    """Purchases with ratings from 1 to 5 and devices; ``{(user, item): rating}``."""
    sequences, items = random_sequences()
    write_atomic(tmp_path, "rated", sequences, items)
    pairs = [(user, item, second) for user, bought in sequences.items() for second, item in enumerate(bought)]
    ratings = {(user, item): 1 + number % 5 for number, (user, item, _) in enumerate(pairs)}
    rows = [f"{u}\t{i}\t{s}\t{ratings[u, i]}\t{'app' if s % 3 else 'web'}" for u, i, s in pairs]
    write_purchases(tmp_path, "rated", rows, RATED)
    return {"dataset": "rated", "data_path": str(tmp_path), "user_inter_num_interval": None}, ratings


def pairs_of(dataset):
    columns = (dataset.id2token(field, dataset.inter_feat[field].to_numpy()) for field in ("user_id", "item_id"))
    return set(zip(*columns, strict=True))


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "SASRec", "BPR", "Pop"])
def test_a_filter_loads_the_column_that_it_names(tiny, tmp_path, model):
    place, ratings = rated(tmp_path)
    dataset = create_dataset(tiny(model=model, val_interval={"rating": "[3,inf)"}, **place))
    assert pairs_of(dataset) == {pair for pair, rating in ratings.items() if rating >= 3}
    dataset = create_dataset(tiny(model=model, val_interval={"device": ["app"], "rating": "[1,2];[5,5]"}, **place))
    assert 0 < dataset.inter_num < sum(rating in (1, 2, 5) for rating in ratings.values())
    dataset = create_dataset(tiny(model=model, val_interval={"brand": ["1", "2"]}, **place))  # of the .item file
    assert {item[-1] for _, item in pairs_of(dataset)} == {"1", "2"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_interval": {"ratng": "[3,inf)"}}, r"'ratng', which no file has\. The \.inter file has user_id.*rating"),
        ({"val_interval": "rating>3"}, r"val_interval: 'rating>3' is not possible: write .*as in \{rating: "),
        ({"normalize_field": "rating"}, r"normalize_field: 'rating' is not possible: write a list of columns"),
        ({"val_interval": {"rating": 3}}, r"val_interval: rating: 3 is no interval: write '\[5,inf\)'"),
        ({"val_interval": {"device": "app"}}, "device: 'app' must be a list of the values to keep"),
        ({"val_interval": {"brand": ["1"]}, "filter_inter_by_user_or_item": False},
         "brand is no column of the .inter file.*filter_inter_by_user_or_item: True: set that"),
        ({"sample_seed": None, "user_sample": 5}, "sample_seed: ~ is not possible"),
        ({"user_inter_num_interval": "5"}, "user_inter_num_interval: '5' is no interval"),
        ({"rm_dup_inter": "firts"}, "Unknown rm_dup_inter 'firts'. Did you mean 'first'"),
        ({"threshold": {"rating": 3}}, r"no effect on \w+: .*--val_interval=\"\{rating: '\[3,inf\)'\}\""),
        ({"val_interval": {"rating": "[3,inf)"}, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}},
         "'rating', which load_col: .* leaves out"),
        ({"eval_args": {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}},
         "order: RO is not possible with"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", ["PerPEFTSASRec", "BPR"])
def test_a_setting_that_cannot_act_is_refused(tiny, tmp_path, model, settings, message):
    place, _ = rated(tmp_path)
    with pytest.raises(SettingError, match=message):
        create_dataset(tiny(model=model, **{**place, **settings}))


@pytest.mark.parametrize(
    "left_out", [{"load_col": {"inter": ["user_id", "item_id"]}}, {"unload_col": {"inter": ["timestamp"]}}]
)
@pytest.mark.parametrize("model", ["PerPEFTSASRec", "BPR"])
def test_times_that_are_not_loaded_are_missed_before_the_split(tiny, model, left_out):
    with pytest.raises(DataError, match=r"'timestamp' \(TIME_FIELD\) is not loaded"):
        create_dataset(tiny(model=model, **left_out))


def test_cold_items_are_not_tested_among_sampled_items(tiny):
    with pytest.raises(SettingError, match="cold_items: 0.3 is not possible with eval_args: mode: uni10"):
        tiny(cold_items=0.3, eval_args={"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni10"})


def test_a_model_of_labels_needs_some(tiny, tmp_path):
    place, ratings = rated(tmp_path)
    with pytest.raises(SettingError, match="FM needs labels.*Set threshold"):
        tiny(model="FM", **place)
    dataset = create_dataset(tiny(model="FM", threshold={"rating": 4}, **place))
    assert dataset.inter_feat["label"].sum() == sum(rating >= 4 for rating in ratings.values())


def split_beforehand(tmp_path):
    """A split in no order of time; the purchases of each part."""
    sequences, items = random_sequences()
    write_atomic(tmp_path, "split", sequences, items)
    parts = {"train": {}, "valid": {}, "test": {}}
    for number, (user, bought) in enumerate(sequences.items()):
        places = [number % len(bought), (number + 1) % len(bought)]
        for second, item in enumerate(bought):
            part = "test" if second == places[0] else "valid" if second == places[1] else "train"
            parts[part][user, item] = second
    for name, rows in parts.items():
        lines = [f"{user}\t{item}\t{second}" for (user, item), second in rows.items()]
        write_purchases(tmp_path, "split", lines, suffix=f"{name}.inter")
    return {"dataset": "split", "data_path": str(tmp_path), **PARTS}, {name: set(rows) for name, rows in parts.items()}


@pytest.mark.parametrize("model", ["PerPEFTBPR", "BPR", "Pop"])
def test_files_that_are_a_split_are_the_split(tiny, tmp_path, caplog, model):
    place, parts = split_beforehand(tmp_path)
    caplog.set_level("INFO")
    config = tiny(model=model, **place)
    dataset = create_dataset(config)
    train_data, valid_data, test_data = data_preparation(config, dataset)

    def pairs(part):
        columns = (dataset.id2token(field, part.inter_feat[field].numpy()) for field in ("user_id", "item_id"))
        return set(zip(*columns, strict=True))

    assert pairs(train_data._dataset) == parts["train"]
    assert pairs(test_data._dataset) == parts["test"]
    assert pairs(valid_data._dataset) == parts["valid"]
    assert "are the split as they are: no filter is applied" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [{"user_sample": 10}, {"rm_dup_inter": "last"}, {"user_inter_num_interval": "[5,inf)"},
     {"item_inter_num_interval": "[2,inf)"}, {"val_interval": {"timestamp": "[2,inf)"}},
     {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"}},
     {"benchmark_filename": ["train", "test"]}],
)  # fmt: skip
def test_what_cannot_act_on_a_split_is_refused_by_name(tiny, tmp_path, settings):
    place, _ = split_beforehand(tmp_path)
    (key,) = settings
    with pytest.raises(SettingError, match=f"{key}: .*(has no effect with benchmark_filename|must name three parts)"):
        tiny(model="BPR", **{**place, **settings})
    off = {"rm_dup_inter": None, "user_inter_num_interval": None}
    assert create_dataset(tiny(model="BPR", **place, **off)).inter_num == sum(map(len, random_sequences()[0].values()))


@pytest.mark.parametrize("model", ["PerPEFTSASRec", "BPR", "Pop"])
def test_data_are_never_saved_nor_read_again(prepare, tmp_path, caplog, model):
    saves = {"save_dataset": True, "save_dataloaders": True, "checkpoint_dir": str(tmp_path / "saved")}
    prepare(model=model, **saves)
    for key in ("save_dataset", "save_dataloaders"):
        assert f"{key}: True has no effect on {model}: the data are read from the atomic files" in caplog.text
    assert not list(tmp_path.glob("saved/**/*-*Dataset.pth"))
    assert not list(tmp_path.glob("saved/**/*-dataloader.pth"))
