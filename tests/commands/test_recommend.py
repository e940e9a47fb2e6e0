"""``python -m recbole_perpeft recommend`` on a tiny checkpoint."""

import shutil

import pandas as pd
import pytest

from recbole_perpeft.__main__ import main
from recbole_perpeft.serving.recommender import Recommender
from tests.day2 import write_today


@pytest.fixture
def file(recorded):
    run = recorded()
    return str(run.checkpoint(run.validated[-1]))


def test_lists_are_printed(file, capsys):
    assert main(["recommend", file, "--users", "u3", "u7", "--k", "2", "--columns", "title", "--group"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["user_id", "rank", "item_id", "score", "title", "group"]
    expected = Recommender.load(file).recommend(["u3", "u7"], k=2)
    assert [line.split()[:3] for line in lines[1:]] == [
        [user, str(rank), item]
        for user, rank, item in zip(expected.user_id, expected["rank"], expected.item_id, strict=True)
    ]


def test_lists_of_all_are_written_and_filtered(file, tmp_path, capsys):
    (tmp_path / "allow.txt").write_text("\n".join(f"i{number}" for number in range(25)))
    (tmp_path / "deny.txt").write_text("i1\ni2\n", encoding="utf-8-sig")  # with a mark at its start, as of Windows
    files = ["--allow", str(tmp_path / "allow.txt"), "--deny", str(tmp_path / "deny.txt")]
    filters = [*files, "--where", "brand=1", "brand=2", "--seen"]
    assert main(["recommend", file, "--out", "lists.csv", "--k", "3", *filters]) == 0
    assert "Written: lists.csv, 40 lists of 3 items" in capsys.readouterr().out
    lists = pd.read_csv("lists.csv")
    assert len(lists) == 120
    assert set(lists.item_id) <= {"i11", "i12", "i21", "i22"}


def test_a_new_user(file, capsys):
    assert main(["recommend", file, "--history", "i3", "i5", "--k", "2"]) == 0
    expected = Recommender.load(file).recommend_new([["i3", "i5"]], k=2).item_id.tolist()
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()[1:]] == expected


def test_new_items_and_new_data(file, tiny_root, tmp_path, capsys):
    place = tmp_path / "new"
    (place / "images").mkdir(parents=True)
    (place / "new.item").write_text("item_id:token\ttitle:token_seq\nj9\tred tent\n")
    shutil.copy(tiny_root / "tiny" / "images" / "i3.png", place / "images" / "j9.png")
    (tmp_path / "allow.txt").write_text("j9\n")
    asked = [
        "--users",
        "u1",
        "--k",
        "1",
        "--new_items",
        str(place / "new.item"),
        "--allow",
        str(tmp_path / "allow.txt"),
    ]
    assert main(["recommend", file, *asked]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("1 new items of")
    assert said[-1].split()[2] == "j9"
    today = write_today(tmp_path / "today", tiny_root)
    assert main(["recommend", file, "--users", "n0", "--k", "3", "--new_data", f"--data_path={today}"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-3:]] == ["n0"] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--out: lists for all users"),
        (["--users", "u1", "--history", "i1"], "give one of them"),
        (["--users", "u1", "--where", "brand"], "write COLUMN=VALUE"),
        (["--users", "u1", "--allow", "nothing.txt"], "--allow: nothing.txt cannot be read"),
        (["--users", "x1"], "Unknown user 'x1'"),
        (["--out", "lists.xls"], "end it in .csv"),
        (["--users", "u1", "--kk", "3"], "write key=value"),
        (["--users", "u1", "--data_path=/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_line(file, capsys, words, message):
    assert main(["recommend", file, *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
