"""New items that are sent to a service: taken without training, and what is refused."""

import base64
import csv
import io
import json
import shutil

import pytest
from PIL import Image

from recbole_perpeft.serving.bundle import write_bundle
from recbole_perpeft.serving.recommender import Recommender
from tests.interpreter import in_a_fresh_interpreter
from tests.serving.services import client_of


def picture_of(root, item):
    return base64.b64encode((root / "tiny" / "images" / f"{item}.png").read_bytes()).decode()


def png(width, height):
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_new_items_are_listed_as_the_recommender_lists_them(bundle, tiny_root, tmp_path):
    sent = [{"id": "new1", "title": "wool tent, \"two\"\nlamps", "picture": picture_of(tiny_root, "i8"), "brand": "x"},
            {"id": "new2", "title": "red ball", "picture": picture_of(tiny_root, "i3")}]  # fmt: skip
    with client_of(bundle, tiny_root) as client:
        answer = client.post("/items", json={"items": sent})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"taken": ["new1", "new2"], "items": 32, "served": 1}
        asked = {"user": "u1", "k": 2, "allow": ["new1", "new2"], "columns": ["title", "brand"]}
        told = client.post("/recommend", json=asked).json()["items"]
        assert client.post("/recommend", json={"history": ["new1", "i2"], "k": 3}).status_code == 200
        again = client.post("/items", json={"items": sent})
        assert again.status_code == 422
        assert "'new1' is in the catalogue already" in again.json()["error"]
        assert client.post("/reload").json()["items"] == 30
    place = tmp_path / "by_hand"
    (place / "images").mkdir(parents=True)
    for name, like in (("new1", "i8"), ("new2", "i3")):
        shutil.copy(tiny_root / "tiny" / "images" / f"{like}.png", place / "images" / f"{name}.png")
    head = ["item_id:token", "title:token_seq", "brand:token"]
    rows = [head, ["new1", sent[0]["title"], "x"], ["new2", "red ball", ""]]
    with open(place / "new.item", "w", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    recommender = Recommender.load(bundle, {"data_path": str(tiny_root)})
    recommender.add_items(place / "new.item")
    ours = recommender.recommend(["u1"], k=2, allow=["new1", "new2"], columns=["title", "brand"])
    assert [(i["item"], i["title"], i["brand"]) for i in told] == list(
        zip(ours.item_id, ours.title, ours.brand, strict=True)
    )
    assert {i["item"]: (i["title"], i["brand"]) for i in told} == {
        "new1": (sent[0]["title"], "x"),
        "new2": ("red ball", ""),
    }
    assert recommender.catalogue.columns == ("title", "brand")
    assert [item["score"] for item in told] == pytest.approx(ours.score.tolist(), abs=1e-4)


def test_a_service_whose_torch_lacks_parts_reads_them_with_all_of_it(bundle, tiny_root):
    sent = {"items": [{"id": "new", "title": "red ball", "picture": picture_of(tiny_root, "i3")}]}
    asked = {"user": "u1", "k": 3, "allow": ["new", "i1", "i2", "i3"], "seen": True}
    code = f"""
import json
from recbole_perpeft.utils.late_torch import import_torch_for_serving
import_torch_for_serving()
from tests.serving.services import client_of
with client_of({str(bundle)!r}, {str(tiny_root)!r}) as client:
    assert client.post("/items", json={sent!r}).json()["taken"] == ["new"]
    print(json.dumps(client.post("/recommend", json={asked!r}).json()["items"]))
"""
    told = json.loads(in_a_fresh_interpreter(code, bundle.parent).splitlines()[-1])
    with client_of(bundle, tiny_root) as client:
        client.post("/items", json=sent)
        ours = client.post("/recommend", json=asked).json()["items"]
    assert [item["item"] for item in told] == [item["item"] for item in ours]
    assert [item["score"] for item in told] == pytest.approx([item["score"] for item in ours], abs=1e-4)


def test_what_cannot_be_taken_is_told_and_nothing_of_it_stays(bundle, tiny_root):
    good = {"id": "new", "title": "red ball", "picture": picture_of(tiny_root, "i3")}
    cases = [
        ([], "items: 0 at a time"),
        ([good] * 3, "items: 3 at a time are not taken: send 1 to 2"),
        ([good, good], "sent twice"),
        ([{**good, "title": " "}], "has no title"),
        ([{"id": "new", "picture": good["picture"]}], "Item 'new' has no title"),
        ([{"id": "new", "title": "red"}], "has no picture"),
        ([{**good, "picture": "not base64!"}], "is not base64"),
        ([{**good, "picture": base64.b64encode(b"no picture").decode()}], "none that can be read"),
        ([{**good, "picture": good["picture"][:200]}], "picture"),
        ([{**good, "picture": png(500, 400)}], "200,000 pixels, and 100,000 are the most"),
        ([{**good, "title": "x" * 10_001}], "more than 10,000 characters"),
        ([{**good, "colour": "red"}], "no column 'colour'"),
        ([{**good, "brand": 3}], "brand: Input should be a valid string"),
        ([{**good, "id": "i1"}], "'i1' is in the catalogue already"),
        ([{**good, "id": "[PAD]"}], "'[PAD]' is in the catalogue already"),
        *(([{**good, "id": name}], "an id is of 1 to 200 bytes") for name in
          ("", "../../new", "/etc/passwd", "a\\b", "a\0b", "a\tb", "..", "x" * 201, "\ud800")),
    ]  # fmt: skip
    with client_of(bundle, tiny_root, items=2, pixels=100_000) as client:
        for items, words in cases:
            answer = client.post(
                "/items", content=json.dumps({"items": items}), headers={"content-type": "application/json"}
            )
            assert answer.status_code == 422, (items, answer.text)
            assert words in answer.json()["error"]
            assert "/tmp" not in answer.json()["error"]
        assert client.get("/health").json()["items"] == 30
        assert client.post("/items", json={"items": [good]}).status_code == 200


def test_without_the_foundation_model_items_are_refused_and_lists_go_on(bundle, tiny_root, tmp_path):
    item = {"id": "new", "title": "red ball", "picture": picture_of(tiny_root, "i3")}
    with client_of(bundle, tmp_path / "away") as client:
        answer = client.post("/items", json={"items": [item]})
        assert answer.status_code == 409
        assert "foundation model" in answer.json()["error"]
        assert client.post("/recommend", json={"user": "u1"}).status_code == 200


def test_a_column_of_pictures_is_written_too(checkpoint, tiny_root, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root, ignore=shutil.ignore_patterns("cache"))
    file = root / "tiny" / "tiny.item"
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([f"{head}\tfile:token", *(f"{row}\timages/{row.split()[0]}.png" for row in rows)]) + "\n")
    settings = {"data_path": str(root), "content_cache": str(tmp_path / "cache"), "image_field": "file"}
    write_bundle(checkpoint(**settings)[2], tmp_path / "bundle")
    with client_of(tmp_path / "bundle", root) as client:
        item = {"id": "new", "title": "red ball", "picture": picture_of(tiny_root, "i3")}
        assert client.post("/items", json={"items": [item]}).json()["taken"] == ["new"]
        assert client.get("/pictures/i3").content == (root / "tiny" / "images" / "i3.png").read_bytes()
