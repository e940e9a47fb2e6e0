"""Files that cannot be read as they are: one line with the file, what was seen, and the cure."""

import pytest

from recbole_perpeft.data.preparation import create_dataset
from recbole_perpeft.utils.errors import DataError
from tests.tiny_data import random_sequences, write_purchases

HEADER = "user_id:token\titem_id:token\ttimestamp:float"
ROWS = [f"{u}\t{i}\t{s}" for u, items in random_sequences()[0].items() for s, i in enumerate(items)]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (HEADER.replace("\t", ","), ROWS, r"shop\.inter are not separated by a tab .* set --field_separator=','"),
        ("userID\titemID\trating\ttimestamp\tx_label", ROWS,
         r"no types.*'userID:token\\titemID:token\\trating:float\\ttimestamp:float\\tx_label:token'.*"
         "--USER_ID_FIELD=userID --ITEM_ID_FIELD=itemID"),
        (HEADER.replace("float", "real"), ROWS, "timestamp has the type 'real'; possible are token, float"),
        (HEADER.replace("float", "token"), ROWS, "timestamp .TIME_FIELD. has the type token.*make it timestamp:float"),
        ('"user_id:token"\t"item_id:token"\t"timestamp:float"', ROWS, "quotation marks"),
        (HEADER, [*ROWS, "u1\ti1\t2026-11-28"],
         rf"shop\.inter, line {len(ROWS) + 2}: timestamp is '2026-11-28', which is no number .*seconds since 1970"),
        (HEADER, [*ROWS, "u1\ti1\t"], rf"line {len(ROWS) + 2}: timestamp .TIME_FIELD. is missing, as in 1 of"),
        (HEADER, [row + "\t" for row in ROWS], r"shop\.inter, line 2: 4 fields where the header has 3 columns"),
        (HEADER, [*ROWS, "u1\ti1\t3\t4\t5"], rf"line {len(ROWS) + 2}: 5 fields where the header has 3"),
        ("\ufeff" + HEADER, ROWS, "set encoding: utf-8-sig"),
        (HEADER.replace("\t", " "), ROWS, r"not separated by a tab .* but by a blank: set --field_separator=' '"),
        (f"{HEADER}\tuser_id:token", ROWS, "names the column 'user_id' twice"),
        (HEADER, [*ROWS, "u1\ti1\tinf"], rf"line {len(ROWS) + 2}: timestamp .TIME_FIELD. is missing"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", ["PerPEFTSASRec", "Pop"])
def test_a_file_that_cannot_be_read_is_one_line_with_the_cure(tiny, tmp_path, model, header, rows, message):
    write_purchases(tmp_path, "shop", rows, header)
    with pytest.raises(DataError, match=message) as error:
        create_dataset(tiny(model=model, dataset="shop", data_path=str(tmp_path)))
    assert "\n" not in str(error.value)


def test_the_advised_header_can_be_loaded(tiny, tmp_path):
    header = "userID:token\titemID:token\ttimestamp:float\tx_label:token"
    write_purchases(tmp_path, "shop", [row + "\t0" for row in ROWS], header)
    fields = {"USER_ID_FIELD": "userID", "ITEM_ID_FIELD": "itemID"}
    assert create_dataset(tiny(dataset="shop", data_path=str(tmp_path), **fields)).inter_num == len(ROWS)


def test_data_without_times_will_do_where_purchases_are_shuffled(tiny, tmp_path):
    rows = [row.rpartition("\t")[0] for row in ROWS]
    write_purchases(tmp_path, "shop", rows, HEADER.rpartition("\t")[0])
    place = {"dataset": "shop", "data_path": str(tmp_path), "model": "BPR"}
    shuffled = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": None, "mode": "full"}
    assert create_dataset(tiny(**place, eval_args=shuffled)).inter_num == len(ROWS)
    with pytest.raises(DataError, match="no column 'timestamp'"):
        create_dataset(tiny(**place))


@pytest.mark.parametrize("separator", [",", "::"])
def test_another_separator_holds_for_titles_too(prepare, tiny_root, tmp_path, separator):
    for suffix in ("inter", "item"):
        header, *rows = (tiny_root / "tiny" / f"tiny.{suffix}").read_text().replace("\t", separator).splitlines()
        write_purchases(tmp_path, "shop", rows, header, suffix)
    text = {"modalities": ["text"], "encoder": str(tiny_root / "tiny" / "clip")}
    theirs = prepare(**text)[1].model.item_tower.encoder.content
    settings = {"dataset": "shop", "data_path": str(tmp_path), "field_separator": separator}
    assert prepare(**text, **settings)[1].model.item_tower.encoder.content.key == theirs.key
