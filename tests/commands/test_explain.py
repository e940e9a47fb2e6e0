"""The command explain: what a mistake leaves behind."""

from recbole_perpeft.__main__ import main


def test_an_error_leaves_no_folder_behind_that_was_not_there(tmp_path, capsys):
    (tmp_path / "text.pth").write_text("no checkpoint")
    (tmp_path / "there").mkdir()
    for wrong in ("nothing.pth", "text.pth"):
        for out in ("new", "new/er", "there"):
            assert main(["explain", str(tmp_path / wrong), "--out", str(tmp_path / out)]) == 2
            assert wrong in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"text.pth", "there"}
    assert not any((tmp_path / "there").iterdir())
