"""Lists in files: what was there before, or all of the new."""

import pandas as pd
import pytest

from recbole_perpeft.serving.list_file import write_lists
from recbole_perpeft.utils.errors import RequestError


def blocks(number=3):
    for block in range(number):
        users = [f"u{block}"] * 2
        titles = ['red "bag", new', "tab\there"]
        yield pd.DataFrame(
            {"user_id": users, "item_id": ["i1", "01"], "score": [0.25 * (block + 1), 2.0], "title": titles}
        )


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_what_is_written_is_read_again(tmp_path, ending):
    file = tmp_path / f"lists{ending}"
    assert write_lists(blocks(), file) == 6
    read = pd.read_parquet if ending == ".parquet" else lambda f: pd.read_csv(f, dtype={"item_id": str})
    assert read(file).equals(pd.concat(blocks(), ignore_index=True))
    assert [file.name for file in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_file_is_the_old_one_until_all_is_written(tmp_path, ending):
    file = tmp_path / f"lists{ending}"
    write_lists(blocks(1), file)
    before = file.read_bytes()

    def stopped():
        yield from blocks(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lists(stopped(), file)
    assert file.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("name", "message"), [("lists.txt", "end it in .csv or .parquet"), ("nowhere/lists.csv", "does not exist")]
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, name, message):
    def computed():
        pytest.fail("computed")
        yield

    with pytest.raises(RequestError, match=message):
        write_lists(computed(), tmp_path / name)
