"""Pictures from URLs, of a server on this machine that does all that servers on the net do."""

import csv
import multiprocessing
import os
import threading
import time

import pytest
from PIL import Image

from recbole_perpeft.content import downloads
from recbole_perpeft.content.downloads import download_pictures
from recbole_perpeft.content.failed_downloads import FILE_NAME, FailedDownload, read_list, write_list
from recbole_perpeft.content.picture_files import find_by_item_id
from recbole_perpeft.utils.errors import ContentError
from tests.content.bad_server import picture


@pytest.fixture
def fetch(server, tmp_path):
    """``fetch(a="png")`` fetches paths of the server, one or a list an item, with limits as further settings."""

    def call(limits=None, **paths):
        urls = {
            item: [server.url(path) for path in ([given] if isinstance(given, str) else given)]
            for item, given in paths.items()
        }
        given = {"private_hosts": ["127.0.0.1"], "workers": 4, "show_progress": False} | (limits or {})
        return download_pictures(urls, tmp_path / "images", **given)

    return call


def test_pictures_are_kept_as_they_come_or_made_small(fetch, tmp_path):
    report = fetch({"shorter_side": 200}, a="png", b="large", c="flat", d="wrong_type", e="chunks")
    assert report.files == {"a": "a.png", "b": "b.jpg", "c": "c.png", "d": "d.webp", "e": "e.png"}
    assert not report.failed
    folder = tmp_path / "images"
    assert (folder / "a.png").read_bytes() == picture()  # what is small is not encoded anew
    assert Image.open(folder / "b.jpg").size == (300, 200)
    assert Image.open(folder / "c.png").size == (900, 600)  # a flat picture is smaller as it came
    assert Image.open(folder / "d.webp").format == "WEBP"
    assert sorted(path.name for path in folder.iterdir()) == sorted(report.files.values())


@pytest.mark.parametrize(
    ("path", "reason", "for_good", "tries"),
    [
        ("nowhere", "HTTP 404", True, 1),
        ("html", "not a picture in one of the formats", True, 1),
        ("empty", "nothing was sent", True, 1),
        ("bomb", "more than 50,000,000 pixels", False, 1),
        ("huge", "1,000,000,000,000 bytes where 100,000 are allowed", False, 1),
        ("endless", "more than 100,000 bytes", False, 1),
        ("zipped", "sent as deflate", False, 1),
        ("odd", "sent as ?[31mred", False, 1),
        ("forbidden", "HTTP 403", False, 1),
        ("slow", "no answer in time", False, 2),
        ("dribble", "took longer than 0.4 s in all", False, 2),
        ("drop", "the connection failed", False, 2),
        ("truncated", "IncompleteRead", False, 2),
        ("cut_without_length", "cut short or damaged", False, 1),
        ("broken", "HTTP 500", False, 2),
        ("busy_for_an_hour", "asks to wait 3600 s", False, 1),
        ("redirect", "redirected to http://127.0.0.1", False, 1),
    ],
)
def test_what_fails_is_named_with_its_reason(fetch, server, path, reason, for_good, tries):
    total = 0.4 if path == "dribble" else 5
    report = fetch({"retries": 1, "read_timeout": 0.3, "total_timeout": total, "max_bytes": 100_000}, a=path)
    assert not report.files
    assert reason in report.failed["a"]
    assert server.asked[path] == tries
    (listed,) = read_list(report.listed_in)
    assert listed == FailedDownload("a", server.url(path), for_good, report.failed["a"])
    assert report.again == (not for_good)


def test_what_comes_at_the_second_try_is_taken(fetch, server):
    report = fetch(a="broken_once", b="truncated_once", c="drop", d=["nowhere", "html", "png"])
    assert report.files == {"a": "a.png", "b": "b.png", "d": "d.png"}
    assert server.asked["drop"] == 4  # three tries more
    assert [failed.item_id for failed in read_list(report.listed_in)] == ["c"]


def test_who_asks_to_wait_is_not_asked_before(fetch, server):
    report = fetch(a="busy_once")
    assert report.files == {"a": "a.png"}
    assert time.monotonic() - server.asked_to_wait > 0.95


def test_a_second_call_goes_on(fetch, server, tmp_path):
    first = fetch({"retries": 0}, a="png", b="nowhere", c="broken_once", d="html")
    assert (len(first.files), first.again) == (1, 1)
    assert "1 of 4 items have one" in str(first)
    assert "tries 1 of them again" in str(first)
    second = fetch({"retries": 0}, a="png", b=["nowhere", "png"], c="broken_once", d="html", e="chunks")
    assert second.files == {"a": "a.png", "b": "b.png", "c": "c.png", "e": "e.png"}
    assert second.fetched == 3
    assert second.failed.keys() == {"d"}
    assert server.asked["nowhere"] == server.asked["html"] == 1  # for good
    assert server.asked["png"] == 2  # of b's second URL
    assert "tries none of them again" in str(second)
    third = fetch(f="broken")  # of other items the list keeps what it knows
    assert [failed.item_id for failed in read_list(third.listed_in)] == ["d", "f"]
    second.listed_in.unlink()
    fetch(d="html")
    assert server.asked["html"] == 2
    assert not (tmp_path / "images" / "d.png").exists()


def test_an_interrupted_call_ends_its_threads_and_keeps_what_it_has(fetch, server, tmp_path, monkeypatch):
    class Interrupted:
        def __init__(self, **_):
            self.done = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self):
            self.done += 1
            if self.done == 3:
                raise KeyboardInterrupt

    before = threading.active_count()
    monkeypatch.setattr(downloads, "tqdm", Interrupted)
    paths = {"x": "nowhere", "a": "png", "b": "png", **{f"s{n}": "slow" for n in range(8)}}
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch(**paths)
    assert time.monotonic() - began < 4  # not the five seconds of the slow ones
    monkeypatch.undo()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.01)
    assert (tmp_path / "images" / "a.png").is_file()
    assert [failed.url for failed in read_list(tmp_path / "images" / FILE_NAME)] == [server.url("nowhere")]
    assert not list((tmp_path / "images").glob("*.tmp"))


def test_who_is_killed_amid_a_picture_fetches_the_rest_and_nothing_twice(fetch, server, tmp_path):
    paths = {item: "stalled_once" if item == "d" else "png" for item in "abcdxyz"}
    limits = {"workers": 1, "read_timeout": 50, "total_timeout": 50}
    process = multiprocessing.get_context("fork").Process(target=fetch, args=(limits,), kwargs=paths)
    process.start()
    try:
        assert server.stalled.wait(30)
    finally:
        process.kill()
        process.join()
    folder = tmp_path / "images"
    assert process.exitcode == -9
    whole = dict.fromkeys(("a.png", "b.png", "c.png"), picture())
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole
    assert server.asked == {"png": 3, "stalled_once": 1}
    (folder / f"x.png.{process.pid}.tmp").write_bytes(picture()[:200])  # as of one that is killed while it writes
    report = fetch(limits, **paths)
    assert (report.fetched, report.failed) == (4, {})
    assert server.asked == {"png": 6, "stalled_once": 2}
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {f"{item}.png": picture() for item in paths}


def test_what_broke_off_at_every_try_is_fetched_by_the_next_call(fetch, server, tmp_path):
    first = fetch({"retries": 0}, a="png", b="truncated_once")
    assert "IncompleteRead" in first.failed["b"]
    assert [file.name for file in (tmp_path / "images").iterdir() if file.suffix != ".tsv"] == ["a.png"]
    second = fetch({"retries": 0}, a="png", b="truncated_once")
    assert (second.fetched, second.failed) == (1, {})
    assert server.asked == {"png": 1, "truncated_once": 2}
    assert (tmp_path / "images" / "b.png").read_bytes() == picture()


def test_redirects_are_followed_as_far_as_is_allowed(fetch, server):
    paths = {"a": "redirect", "b": "redirect_to_itself", "c": "redirect_to_private", "d": "redirect_to_file"}
    report = fetch({"max_redirects": 2}, **paths)
    assert report.files == {"a": "a.png"}
    assert "beyond the 2 that are followed" in report.failed["b"]
    assert server.asked["redirect_to_itself"] == 3
    assert "127.0.0.2 is at 127.0.0.2, which is no public address" in report.failed["c"]
    assert "http:// or https://" in report.failed["d"]
    assert server.asked["png"] == 1


def test_an_item_without_urls_is_listed(fetch):
    assert fetch(a=[]).failed == {"a": "no URL is given"}


NAMES = ["B00ABC", "b00abc", "a/b", "../../x", "..", ".hidden", "CON", "con.x", "a b", "a%20b", "ü", "名前", "", "a:b",
         "x" * 300, "x" * 299 + "y", "a~b", "nul", "A.jpg", "Aux", FILE_NAME]  # fmt: skip


def test_names_of_files_are_safe_and_one_for_each_item(fetch, tmp_path):
    report = fetch({"workers": 2}, **dict.fromkeys(NAMES, "png"))
    assert report.files.keys() == set(NAMES)
    names = list(report.files.values())
    assert len({name.lower() for name in names}) == len(NAMES)
    for name in names:
        assert os.path.basename(name) == name
        assert not name.startswith(".")
        assert len(name) < 200
        assert name.isascii()
        assert name.lower().split(".")[0] not in ("con", "nul", "aux")
    assert report.files["a/b"] == "a%2Fb.png"
    assert {path.name for path in (tmp_path / "images").iterdir()} == set(names)
    found = find_by_item_id(NAMES, tmp_path, "images")  # as a run finds them
    assert {item: path and path.name for item, path in zip(NAMES, found, strict=True)} == report.files
    assert fetch(**dict.fromkeys(NAMES, "png")).fetched == 0


def test_ids_with_tabs_and_line_breaks_keep_their_place_in_the_list(tmp_path):
    failed = [FailedDownload('a\t"b"\nc', "http://x/\r\n", True, "no\nthing"), FailedDownload("d", "", False, "")]
    write_list(tmp_path / "list", failed)
    assert read_list(tmp_path / "list") == failed
    with (tmp_path / "list").open("a") as file:
        file.write("e\thttp://cut sho")
    assert read_list(tmp_path / "list") == failed
    with (tmp_path / "list").open(newline="") as file:
        assert next(csv.reader(file, "excel-tab")) == ["item", "url", "failed", "reason"]


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"workers": 0}, "workers: 0"), ({"total_timeout": 0}, "total_timeout: 0"), ({"quality": 96}, "quality: 96"),
     ({"retries": -1}, "retries: -1")],
)  # fmt: skip
def test_limits_that_are_not_possible(limits, message, tmp_path):
    with pytest.raises(ContentError, match=message):
        download_pictures({}, tmp_path, **limits)


def test_a_folder_that_cannot_be_written(fetch, tmp_path):
    (tmp_path / "images").touch()
    with pytest.raises(ContentError, match="cannot be written to .*images.*the same command goes on"):
        fetch(a="png")


def test_a_disk_that_fails_is_the_folders_fault_not_the_pictures(fetch, tmp_path):
    (tmp_path / "images" / f"a.png.{os.getpid()}.tmp").mkdir(parents=True)  # where the first bytes would go
    with pytest.raises(ContentError, match="cannot be written to"):
        fetch(a="png")
