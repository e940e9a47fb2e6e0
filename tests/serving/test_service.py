"""The service: lists as the recommender's, what is refused and how, and another bundle in its place."""

import asyncio
import json
import re
import shutil

import pytest

from recbole_perpeft.serving.bundle import write_bundle
from recbole_perpeft.serving.recommender import Recommender
from recbole_perpeft.utils.late_torch import TRIED
from tests.interpreter import in_a_fresh_interpreter
from tests.serving.services import app_of, client_of, together


@pytest.fixture
def recommender(bundle):
    return Recommender.load(bundle)


def same(answers, lists):
    """Whether answers tell, one after the other, the items, titles and scores of ``lists``."""
    told = [item for answer in answers for item in answer.json()["items"]]
    words = [(item["item"], item["title"]) for item in told] == list(zip(lists.item_id, lists.title, strict=True))
    return words and [item["score"] for item in told] == pytest.approx(lists.score.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "asked",
    [
        {"k": 5},
        {"k": 3, "seen": True},
        {"k": 2, "allow": ["i1", "i2", "i3", "i4", "i5", "i6", "i7", "i8", "i9", "i10", "i11"], "deny": ["i3"]},
        {"k": 1, "where": {"brand": ["3", "4"]}},
        {"k": 4, "by_group": 1},
    ],
)
def test_lists_are_the_recommenders(bundle, recommender, tiny_root, asked):
    user, history = recommender.users[3], ["i1", "i2"]
    with client_of(bundle, tiny_root) as client:
        known = client.post("/recommend", json={"user": user, **asked})
        new = client.post("/recommend", json={"history": history, **asked})
    ours = recommender.recommend([user], columns=["title"], group=True, **asked)
    assert same([known], ours)
    assert same([new], recommender.recommend_new([history], columns=["title"], **asked))
    assert known.json()["group"] == ours.group[0]
    assert known.json()["user"] == user


def test_columns_are_those_that_are_asked_for(bundle, tiny_root):
    with client_of(bundle, tiny_root) as client:
        (item,) = client.post("/recommend", json={"user": "u1", "k": 1, "columns": ["brand"]}).json()["items"]
    assert item.keys() == {"item", "score", "brand", "picture"}
    assert item["brand"] == item["item"][-1]


REFUSED = [
    ({"user": "nobody"}, 404, "Unknown user 'nobody'"),
    ({"user": "[PAD]"}, 404, "Unknown user"),
    ({"user": "u1", "k": 0}, 422, "k: a list has 1 to 200 items"),
    ({"user": "u1", "k": 1_000_000}, 422, "k: a list has 1 to 200 items"),
    ({"user": "u1", "k": 30}, 422, "more than the"),
    ({"user": "u1", "k": "5"}, 422, "k: Input should be a valid integer"),
    ({"user": "u1", "k": True}, 422, "k: Input should be a valid integer"),
    ({"user": 1}, 422, "user: Input should be a valid string"),
    ({}, 422, "user and history: give one of them"),
    ({"user": "u1", "history": ["i1"]}, 422, "user and history: give one of them"),
    ({"history": []}, 422, "history: 0 items"),
    ({"history": ["i1"] * 6}, 422, "history: 6 items; give 1 to 5"),
    ({"history": ["[PAD]"]}, 422, "Unknown item '[PAD]'"),
    ({"history": ["i1", "i99"]}, 422, "Unknown item 'i99'"),
    ({"user": "u1", "allow": ["\ud800"]}, 422, ""),
    ({"user": "u1", "deny": ["../../etc/passwd"]}, 422, "Unknown item '../../etc/passwd'"),
    ({"user": "u1", "allow": []}, 422, "No item is left"),
    ({"user": "u1", "where": {"brand": "x"}}, 422, "no item has brand 'x'"),
    ({"user": "u1", "where": {"brand": []}}, 422, "where: no value of brand is given"),
    ({"user": "u1", "where": {"colour": "x"}}, 422, "no column 'colour'"),
    ({"user": "u1", "columns": ["score"]}, 422, "a column 'score' of their own"),
    ({"user": "u1", "by_group": 3}, 422, "by_group: 3 does not exist: give one of 0 to 2"),
    ({"user": "u1", "by_group": -1}, 422, "by_group: -1 is no group"),
    ({"user": "u1", "where": [1]}, 422, "where: Input should be a valid dictionary"),
    ({"user": "u1", "file": "/etc/passwd"}, 422, "file: Extra inputs are not permitted"),
    ([1], 422, "The body: "),
]


def test_what_cannot_be_met_is_told_in_json(bundle, tiny_root):
    with client_of(bundle, tiny_root, history=5) as client:
        for body, status, words in REFUSED:
            answer = client.post("/recommend", content=json.dumps(body), headers={"content-type": "application/json"})
            assert answer.status_code == status, (body, answer.text)
            assert words in answer.json()["error"]
        assert client.post("/recommend", json={"user": "u1"}).status_code == 200


def test_a_body_of_another_kind_is_told_how_to_be_sent(bundle, tiny_root):
    with client_of(bundle, tiny_root) as client:
        form = {"content-type": "application/x-www-form-urlencoded"}  # what curl -d says by itself
        answer = client.post("/recommend", content=b'{"user": "u1"}', headers=form)
        assert answer.status_code == 422
        assert answer.json()["error"] == "The body: send it as JSON, with Content-Type: application/json."


BODIES = [
    (b"", 422),
    (b"{", 400),
    (b"\xff\xfe", 400),
    (b"[" * 100_000, 400),
    (b'{"user": "u1", "k": ' + b"9" * 5000 + b"}", 400),
]


@pytest.mark.parametrize(("body", "status"), BODIES)
def test_a_body_that_is_no_json_is_the_callers_fault(bundle, tiny_root, body, status):
    with client_of(bundle, tiny_root) as client:
        answer = client.post("/recommend", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status
        assert answer.json().keys() == {"error"}
        assert (
            client.post("/recommend", content=b'{"user": "u1"}', headers={"content-type": "text/plain"}).status_code
            == 422
        )


def test_a_large_body_is_refused_announced_or_not(bundle, tiny_root):
    def parts():
        for _ in range(10):
            yield b" " * 1_000_000

    with client_of(bundle, tiny_root) as client:
        for body in (b" " * 10_000_000, parts()):
            answer = client.post("/recommend", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 413
            assert "8,388,608" in answer.json()["error"]


def test_other_paths_methods_and_names_of_this_machine_are_refused_in_json(bundle, tiny_root):
    with client_of(bundle, tiny_root) as client:
        for answer, status in (
            (client.get("/bundle.json"), 404), (client.get("/recommend"), 405), (client.delete("/items"), 405),
        ):  # fmt: skip
            assert answer.status_code == status
            assert answer.json().keys() == {"error"}
        for headers, status in (
            ({"host": "evil.example"}, 400),
            ({"host": ""}, 400),
            ({"origin": "http://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
            ({"host": "[::1]:8000"}, 200),
        ):
            answer = client.post("/reload", headers=headers)
            assert answer.status_code == status, headers
            assert answer.json().keys() & {"error", "served"}


def test_requests_that_come_together_are_computed_together_and_one_that_cannot_be_met_alone(
    bundle, tiny_root, recommender
):
    users = recommender.users

    async def talk(client):
        asked = [{"user": user, "k": 3} for user in users] + [{"user": users[0], "k": 3, "allow": ["i1", "i2"]}]
        asked += [{"history": ["i1"], "k": 3}, {"history": ["i2"], "k": 25 + 5}]
        answers = await asyncio.gather(*(client.post("/recommend", json=body) for body in asked))
        return answers, (await client.get("/metrics")).text

    answers, metrics = together(app_of(bundle, tiny_root), talk)
    alone = recommender.recommend(users, k=3, columns=["title"])
    assert same(answers[: len(users)], alone)
    assert [answer.status_code for answer in answers[len(users) :]] == [422, 200, 422]
    sizes = [int(count) for count in re.findall(r'lists_together_bucket\{le="\S+"\} (\d+)', metrics)]
    assert sizes[0] < sizes[-1]  # some were more than one


def test_more_requests_than_may_wait_are_told_to_come_again(bundle, tiny_root):
    async def talk(client):
        return await asyncio.gather(*(client.post("/recommend", json={"user": "u1"}) for _ in range(50)))

    answers = together(app_of(bundle, tiny_root, waiting=2), talk)
    assert {answer.status_code for answer in answers} == {200, 503}
    assert {answer.headers.get("retry-after") for answer in answers} == {None, "1"}


def test_a_request_during_a_reload_is_answered_by_the_old_bundle_or_the_new_one(
    bundle, tiny_root, checkpoint, recommender
):
    other = checkpoint(seed=7, soft_groups=True, content_term=True)[2]
    user, lists = "u1", {}
    lists[1] = recommender.recommend([user], k=5, columns=["title"])

    async def talk(client):
        write_bundle(other, bundle)
        answers = []

        async def ask():
            while not reloaded.done():
                answers.append(await client.post("/recommend", json={"user": user, "k": 5}))

        reloaded = asyncio.ensure_future(client.post("/reload"))
        await asyncio.gather(*(ask() for _ in range(3)))
        answers.append(await client.post("/recommend", json={"user": user, "k": 5}))
        return answers, reloaded.result()

    answers, reloaded = together(app_of(bundle, tiny_root), talk)
    lists[2] = Recommender.load(bundle).recommend([user], k=5, columns=["title"])
    assert not lists[1].equals(lists[2])
    assert reloaded.json()["served"] == 2
    assert {answer.json()["served"] for answer in answers} == {1, 2}
    for answer in answers:
        assert same([answer], lists[answer.json()["served"]])


def test_a_bundle_that_does_not_open_leaves_the_old_one_serving(bundle, tiny_root):
    with client_of(bundle, tiny_root) as client:
        before = client.post("/recommend", json={"user": "u1"}).json()
        (bundle / "model.safetensors").write_bytes(b"no tensors")
        answer = client.post("/reload")
        assert answer.status_code == 409
        assert "what was served goes on" in answer.json()["error"]
        assert "model.safetensors" in answer.json()["error"]
        shutil.rmtree(bundle)
        gone = client.post("/reload")
        assert gone.status_code == 409
        assert f"{bundle} does not exist: give a checkpoint, or the folder of a bundle." in gone.json()["error"]
        assert client.post("/recommend", json={"user": "u1"}).json() == before
        assert 'reloads_total{result="refused"} 2' in client.get("/metrics").text
        assert client.get("/health").json()["served"] == 1


def test_one_change_at_a_time(bundle, tiny_root):
    async def talk(client):
        return await asyncio.gather(client.post("/reload"), client.post("/reload"))

    assert sorted(answer.status_code for answer in together(app_of(bundle, tiny_root), talk)) == [200, 409]


def test_a_model_of_recbole_is_served_without_groups(checkpoint, tiny_root, tmp_path):
    write_bundle(checkpoint("BPR", epochs=1)[2], tmp_path / "bpr")
    with client_of(tmp_path / "bpr", tiny_root) as client:
        answer = client.post("/recommend", json={"user": "u1", "k": 3}).json()
        assert answer["group"] is None
        assert len(answer["items"]) == 3
        assert "knows users by what it learnt" in client.post("/recommend", json={"history": ["i1"]}).json()["error"]
        assert client.post("/recommend", json={"user": "u1", "by_group": 0}).status_code == 422
        assert client.post("/items", json={"items": [{"id": "new"}]}).status_code == 422


def test_a_bundle_is_served_without_what_only_training_needs(bundle, tiny_root):
    code = f"""
import sys
from recbole_perpeft.__main__ import main
assert main(["serve", "nothing", "--port", "0"]) == 2  # as the command begins
from fastapi.testclient import TestClient
from recbole_perpeft.commands import serve
from recbole_perpeft.serving.service.app import create_app
opener = lambda: serve.Recommender.load({str(bundle)!r}, {{"data_path": {str(tiny_root)!r}}})
with TestClient(create_app(opener), "http://127.0.0.1") as client:
    known, new = (client.post("/recommend", json=body) for body in ({{"user": "u1"}}, {{"history": ["i1", "i2"]}}))
    picture = client.get(known.json()["items"][0]["picture"])
    print([answer.status_code for answer in (known, new, picture, client.get("/users"), client.post("/reload"))])
unused = ("transformers", "peft", "sklearn", "tensorboard", "torch._dynamo", "recbole_perpeft.trainer.trainer")
unused += ("pandas", "pyarrow", "matplotlib", "ray", "scipy.sparse")  # most of the memory that can be done without
if sys.modules["torch"].__version__.startswith({TRIED!r}):
    unused += ("torch._decomp.decompositions", "torch._refs.linalg", "torch.export.exported_program")
    unused += ("torch.distributions.normal", "torch.quantization.observer")
unused += ("PIL.Image", "numpy.ma", "recbole_perpeft.quick_start", "recbole_perpeft.explain", "recbole_perpeft.report")
print([name for name in unused if name in sys.modules])
"""
    assert in_a_fresh_interpreter(code, bundle.parent).splitlines()[-2:] == ["[200, 200, 200, 200, 200]", "[]"]
