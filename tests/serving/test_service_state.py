"""What the service tells of itself, and what it does not."""

import re
import threading

from recbole_perpeft.serving.recommender import Recommender
from tests.serving.services import client_of


def test_head_is_answered_as_get_without_a_body(bundle, tiny_root):
    with client_of(bundle, tiny_root) as client:
        for path in ("/health", "/metrics", "/", "/docs"):
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == client.get(path).headers["content-type"]
        assert client.head("/recommend").status_code == 405
        counted = 'recbole_perpeft_requests_total{path="/health",status="200"} 2'
        assert counted in client.get("/metrics").text.splitlines()


def test_health_and_metrics_tell_what_is_so(bundle, tiny_root):
    with client_of(bundle, tiny_root) as client:
        health = client.get("/health").json()
        assert health | {"status": "ok", "users": 40, "items": 30, "groups": 3, "served": 1} == health
        for _ in range(3):
            client.post("/recommend", json={"user": "u1"})
        client.post("/recommend", json={"user": "nobody"})
        client.get("/no/such/path")
        metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = metrics.text.splitlines()
    for line in (
        'recbole_perpeft_requests_total{path="/recommend",status="200"} 3',
        'recbole_perpeft_requests_total{path="/recommend",status="404"} 1',
        'recbole_perpeft_requests_total{path="other",status="404"} 1',
        'recbole_perpeft_request_seconds_count{path="/recommend"} 4',
        'recbole_perpeft_request_seconds_bucket{path="/recommend",le="+Inf"} 4',
        "recbole_perpeft_items 30",
    ):
        assert line in lines
    form = re.compile(r"# (HELP \w+ .+|TYPE \w+ (counter|gauge|histogram))|\w+(\{(\w+=\"[^\"]*\",?)+\})? [0-9.e+-]+")
    assert [line for line in lines if not form.fullmatch(line)] == []


def test_a_failure_inside_tells_nothing_of_the_program(bundle, tiny_root, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("secret")

    with client_of(bundle, tiny_root) as client:
        monkeypatch.setattr(Recommender, "lists", fail)
        answer = client.post("/recommend", json={"user": "u1"})
        assert answer.status_code == 500
        assert answer.json() == {"error": "The service failed at this request; its log says how."}
        monkeypatch.undo()
        assert client.post("/recommend", json={"user": "u1"}).status_code == 200
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("lists", "beside"))]
