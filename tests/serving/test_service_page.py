"""The service's pages in a browser: what they show, that their pictures load, and what the console says."""

import html
import re
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from recbole_perpeft.serving.recommender import Recommender
from tests.browser import is_blank, needs_browser, opened
from tests.serving.services import app_of, client_of


@contextmanager
def listening(app):
    """The port of a service of this process."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.02)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


def items_in(dom, part):
    """Ids of the items below the element with the id ``part``, up to the next section."""
    return re.findall(r"<b>([^<]+)</b>", dom.split(f'id="{part}"')[1].split("</section>")[0])


@needs_browser
@pytest.mark.parametrize(
    "has_pictures", [pytest.param(True, id="pictures"), pytest.param(False, id="tiles", marks=pytest.mark.slow)]
)
def test_the_page_shows_a_user_and_what_each_group_has_for_them(bundle, tiny_root, tmp_path, has_pictures):
    recommender = Recommender.load(bundle)
    with listening(app_of(bundle, tiny_root if has_pictures else tmp_path)) as port:
        dom, said, photograph = opened(f"http://127.0.0.1:{port}/?user=u7", tmp_path / "browser")
    assert said == []
    assert not is_blank(photograph)
    assert 'data-shown="u7"' in dom
    own = recommender.recommend(["u7"], k=12, columns=["title"], group=True)
    assert items_in(dom, "history") == recommender.history("u7")
    assert items_in(dom, "list") == own.item_id.tolist()
    assert all(title in html.unescape(dom) for title in own.title)
    groups = [own.group[0], *(group for group in range(3) if group != own.group[0])]
    lists = [recommender.recommend(["u7"], k=8, by_group=group).item_id.tolist() for group in groups]
    assert items_in(dom, "groups") == sum(lists, [])
    shown = len(recommender.history("u7")) + 12 + 3 * 8
    assert len(re.findall(r'<img[^>]* class="loaded"', dom)) == (shown if has_pictures else 0)  # of a natural width
    assert dom.count('class="tile"') == (0 if has_pictures else shown)


@needs_browser
@pytest.mark.slow
def test_an_unknown_user_is_told_of_on_the_page_and_in_the_console(bundle, tiny_root, tmp_path):
    with listening(app_of(bundle, tiny_root)) as port:
        dom, said, _ = opened(f"http://127.0.0.1:{port}/?user=nobody", tmp_path / "browser")
    assert "Unknown user 'nobody'" in dom
    assert any("Unknown user 'nobody'" in line for line in said)


@needs_browser
@pytest.mark.slow
def test_the_page_of_requests_tells_of_all_of_them(bundle, tiny_root, tmp_path):
    with listening(app_of(bundle, tiny_root)) as port:
        dom, said, _ = opened(f"http://127.0.0.1:{port}/docs", tmp_path / "browser")
    assert said == []
    for request in ("POST /recommend", "POST /items", "POST /reload", "GET /health", "GET /metrics"):
        assert f"<code>{request}</code>" in dom
    assert "<td>by_group</td>" in dom


def test_pictures_are_those_of_known_items_and_nothing_else(bundle, tiny_root):
    with client_of(bundle, tiny_root) as client:
        answer = client.get("/pictures/i3")
        assert answer.content == (tiny_root / "tiny" / "images" / "i3.png").read_bytes()
        assert answer.headers["content-type"] == "image/png"
        for name in ("i99", "[PAD]", "../tiny.item", "..%2ftiny.item", "%2e%2e/%2e%2e/tiny/images/i3.png", "i3.png",
                     "/etc/passwd", "%00"):  # fmt: skip
            assert client.get(f"/pictures/{name}").status_code == 404
        told = client.post("/recommend", json={"user": "u1", "k": 1}).json()["items"][0]
        assert told["picture"] == f"/pictures/{told['item']}"


def test_pages_load_nothing_from_elsewhere_and_their_files_are_served(bundle, tiny_root):
    with client_of(bundle, tiny_root) as client:
        for page in ("/", "/docs"):
            text = client.get(page).text
            wanted = re.findall(r'(?:src|href)="([^"]+)"', text)
            assert [name for name in wanted if "://" in name] == []
            assert all(client.get(name).status_code == 200 for name in wanted if name.startswith("/"))
        assert "default-src 'self'" in client.get("/").headers["content-security-policy"]


def test_users_are_found_by_how_their_ids_begin(bundle, tiny_root):
    with client_of(bundle, tiny_root) as client:
        assert sorted(client.get("/users?start=u1").json()["users"]) == [
            "u1",
            *(f"u{number}" for number in range(10, 20)),
        ]
        assert client.get("/users/nobody").status_code == 404


def test_without_the_page_nothing_tells_what_users_bought(bundle, tiny_root):
    with client_of(bundle, tiny_root, page=False) as client:
        for path in ("/", "/users", "/users/u1", "/pictures/i1", "/page.js"):
            assert client.get(path).status_code == 404
        assert client.post("/recommend", json={"user": "u1", "k": 1}).json()["items"][0]["picture"] is None
        assert client.get("/docs").status_code == 200
