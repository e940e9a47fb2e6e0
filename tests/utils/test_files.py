"""Runs that begin in the same second have files of their own."""

from recbole_perpeft.utils.files import remove_empty, reserve


def test_a_name_is_given_once(tmp_path):
    file = tmp_path / "made" / "run.log"
    names = [reserve(file) for _ in range(3)]
    assert names == [file, file.with_name("run-2.log"), file.with_name("run-3.log")]
    assert all(name.stat().st_size == 0 for name in names)


def test_a_name_in_a_folder_that_cannot_be_is_left_to_the_write_that_follows(tmp_path):
    (tmp_path / "file").touch()
    name = tmp_path / "file" / "run.log"
    assert reserve(name) == name


def test_a_name_is_given_back_only_where_nothing_was_written(tmp_path):
    empty, written = reserve(tmp_path / "run.pth"), reserve(tmp_path / "run.pth")
    written.write_text("something")
    for name in (empty, written, tmp_path / "gone.pth"):
        remove_empty(name)
    assert list(tmp_path.iterdir()) == [written]
