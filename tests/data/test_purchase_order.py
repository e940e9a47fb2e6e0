"""Who bought what last: by the time in the file, and by the order of the file where times are the same."""

import numpy as np
import pytest

from recbole_perpeft.data.preparation import create_dataset, data_preparation
from tests.tiny_data import write_purchases

STEPS = {"seconds": (1_650_000_000, 1), "milliseconds": (1_650_000_000_000, 7), "microseconds": (1.65e15, 3)}


def bursts(tmp_path, start, step, ties=0):
    """Purchases so close in time that float32 takes them for one moment, in a shuffled file; the true sequences.

    The last ``ties`` purchases of a user have the same time; their order is that of the file.
    """
    rng = np.random.default_rng(0)
    rows = []
    for user in range(30):
        times = start + np.cumsum(rng.integers(1, 5, 8)) * step
        times[len(times) - ties :] = times[-1]
        rows += [
            (f"u{user}", f"i{item}", time) for item, time in zip(rng.choice(40, 8, replace=False), times, strict=True)
        ]
    rows = [rows[place] for place in rng.permutation(len(rows))]
    write_purchases(tmp_path, "burst", [f"{user}\t{item}\t{float(time):.0f}" for user, item, time in rows])
    sequences = {}
    for user, item, _ in sorted(rows, key=lambda row: row[2]):  # Python's sort is stable, its floats are 64 bits
        sequences.setdefault(user, []).append(item)
    return sequences


def held_out(dataset, loader):
    part = loader._dataset
    users, items = (dataset.id2token(field, part.inter_feat[field].numpy()) for field in ("user_id", "item_id"))
    return dict(zip(users.tolist(), items.tolist(), strict=True))


@pytest.mark.parametrize("unit", STEPS)
@pytest.mark.parametrize("keep", ["first", "last", None])
def test_the_last_purchase_tests_and_the_one_before_it_validates(tiny, tmp_path, unit, keep):
    for ties, model in ((0, "PerPEFTSASRec"), (3, "SASRec"), (3, "BPR"), (3, "Pop")):
        folder = tmp_path / f"{model}-{ties}"
        sequences = bursts(folder, *STEPS[unit], ties)
        settings = {"dataset": "burst", "data_path": str(folder), "rm_dup_inter": keep, "mask_history": False}
        config = tiny(model=model, **settings)
        dataset = create_dataset(config)
        _, valid_data, test_data = data_preparation(config, dataset)
        assert held_out(dataset, valid_data) == {user: items[-2] for user, items in sequences.items()}
        assert held_out(dataset, test_data) == {user: items[-1] for user, items in sequences.items()}


def test_the_log_says_how_many_users_have_a_tie_at_the_end(tiny, tmp_path, caplog):
    bursts(tmp_path / "ties", 1_650_000_000, 60, ties=2)
    bursts(tmp_path / "none", 1_650_000_000, 60)
    caplog.set_level("INFO")
    create_dataset(tiny(dataset="burst", data_path=str(tmp_path / "none")))
    assert "at the same timestamp" not in caplog.text
    create_dataset(tiny(dataset="burst", data_path=str(tmp_path / "ties")))
    assert "30 of 30 users made their last purchases at the same timestamp" in caplog.text


def test_ids_are_numbered_as_in_the_file_where_nothing_is_dropped(tiny, tmp_path):
    bursts(tmp_path, 1_650_000_000, 60)
    settings = {"dataset": "burst", "data_path": str(tmp_path), "rm_dup_inter": None, "mask_history": False}
    dataset = create_dataset(tiny(model="BPR", **settings))
    lines = (tmp_path / "burst" / "burst.inter").read_text().splitlines()[1:]
    in_file = list(dict.fromkeys(line.split("\t")[1] for line in lines))
    assert dataset.field2id_token["item_id"][1:].tolist() == in_file
