"""``check``: figures against plain loops, and all that is wrong at once."""

import re
import shutil
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from PIL import Image

from recbole_perpeft import quick_start
from recbole_perpeft.config import Config
from recbole_perpeft.data.sources.purchases import core
from recbole_perpeft.report.data_check.check import check_data
from recbole_perpeft.report.data_check.screen import as_text, verdict
from recbole_perpeft.utils.errors import PerPEFTError
from tests.report.data_check.conftest import change, figures, of_kind, rename
from tests.tiny_data import write_purchases
from tests.tiny_runs import tiny_config

ROOT = Path(__file__).parents[3]


def test_a_whole_data_set_has_no_problems_and_nothing_is_written(shop, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    config = tiny_config(shop.parent)
    settings = config.settings()
    findings = check_data(config)
    assert config.settings() == settings
    assert findings.problems == []
    assert verdict(findings) == "No errors, no warnings: a run can begin."
    assert figures(findings, "Items")["lines"] == "30"
    assert figures(findings, "Pictures")["missing"] == "0 of 30"
    assert figures(findings, "Pictures")["shorter side"] == "20 to 20, median 20 pixels"
    assert len(as_text(findings).splitlines()) < 40
    assert sorted(tmp_path.rglob("*")) == before


def test_figures_of_purchases_are_those_of_a_plain_count(tmp_path):
    rng = np.random.default_rng(1)
    rows = [(f"u{u}", f"i{i}", int(t)) for u, i, t in rng.integers(0, (30, 25, 40), (400, 3))]
    write_purchases(tmp_path, "shop", [f"{u}\t{i}\t{t}" for u, i, t in rows])
    findings = check_data(tiny_config(tmp_path, "SASRec", "shop"))
    found = figures(findings, "Purchases")
    by_user, by_item = Counter(u for u, _, _ in rows), Counter(i for _, i, _ in rows)
    repeats = len(rows) - len({(u, i) for u, i, _ in rows})
    ties = len(rows) - len({(u, t) for u, _, t in rows})
    last_tied = 0
    for user in by_user:
        times = sorted(t for u, _, t in rows if u == user)
        last_tied += len(times) > 1 and times[-1] == times[-2]
    assert (found["users"], found["items"]) == (str(len(by_user)), str(len(by_item)))
    assert found["purchases"].startswith("400, ")
    assert found["of a user"].startswith(
        f"{min(by_user.values())} to {max(by_user.values())}, median {median(by_user.values()):g}"
    )
    assert found["repeats"].startswith(f"{repeats} of 400")
    assert found["ties in time"].startswith(f"{ties} of 400")
    assert found["ties in time"].endswith(f"the last of {last_tied} of {len(by_user)} users")
    assert findings.lengths["purchases of a user"].count(max(by_user.values())) >= 1
    assert figures(findings, "Titles and pictures")["not read"] == "SASRec reads purchases alone"


def test_a_core_is_what_taking_out_one_by_one_leaves():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 40, 260), rng.integers(0, 40, 260)
    left = list(zip(users.tolist(), items.tolist(), range(len(users)), strict=True))
    while True:
        of_user, of_item = Counter(u for u, _, _ in left), Counter(i for _, i, _ in left)
        weak = next((p for p in left if of_user[p[0]] < 5 or of_item[p[1]] < 5), None)
        if weak is None:
            break
        left.remove(weak)
    assert 0 < len(left) < 250
    assert core(users, items, 5).tolist() == [row for _, _, row in left]


def test_all_that_is_wrong_is_said_at_once(checked, shop):
    change(shop / "tiny.inter", "\t1\n", "\tyesterday\n")
    with (shop / "tiny.inter").open("a") as file:
        file.write("u0\ti1\t7\tmore\n")
    change(shop / "tiny.item", "i3\t", "j3\t")
    (shop / "images" / "i4.png").write_bytes(b"<html>")
    (shop / "images" / "i5.png").unlink()
    findings = checked(encoder="nowhere")
    errors = of_kind(findings, "error")
    assert [text for text in errors if "4 fields where the header has 3 columns" in text]
    assert [text for text in errors if "1 of 30 items have no text" in text and "'i3'" in text]
    assert [text for text in errors if "1 of 30 items have no picture" in text and "'i5'" in text]
    assert [text for text in errors if "1 of 29 pictures cannot be used" in text and "i4.png: not a picture" in text]
    assert [text for text in errors if text.startswith("encoder: 'nowhere'")]
    assert len(errors) == 5
    assert figures(findings, "Items")["bought, without a line"] == "1 of 30: 'i3'"
    assert figures(findings, "Items")["never bought"] == "1 of 30"
    assert verdict(findings) == "5 errors, no warnings: a run would fail."


def test_what_neutral_content_stands_in_for_is_a_warning(checked, shop):
    (shop / "images" / "i4.png").write_bytes(b"<html>")
    (shop / "images" / "i5.png").unlink()
    findings = checked(missing_content="neutral")
    assert of_kind(findings, "error") == []
    (warning,) = of_kind(findings, "warning")
    assert "1 of 29 pictures cannot be used" in warning


def replaced(file, text):
    file.write_text(text)


def latin(file):
    with file.open("ab") as end:
        end.write("u1\tcafé\t9\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda shop: change(shop / "tiny.inter", "user_id:token\t", "user_id\t"), "gives no types"),
        (lambda shop: change(shop / "tiny.inter", "timestamp:float", "timestamp:token"), "type token"),
        (lambda shop: change(shop / "tiny.inter", "\t1\n", "\tyesterday\n"), "yesterday"),
        (lambda shop: change(shop / "tiny.inter", "\t1\n", "\t\n"), "is missing, as in 1 of"),
        (lambda shop: replaced(shop / "tiny.inter", "user_id:token\titem_id:token\ttimestamp:float\n"), "no purchases"),
        (lambda shop: replaced(shop / "tiny.inter", ""), "is empty"),
        (lambda shop: latin(shop / "tiny.inter"), "tiny.inter is not in utf-8"),
        (lambda shop: latin(shop / "tiny.item"), "is not utf-8. Set `encoding`"),
        (lambda shop: (shop / "tiny.inter").unlink(), "tiny.inter does not exist"),
        (lambda shop: (shop / "tiny.item").unlink(), "tiny.item cannot be read"),
        (lambda shop: change(shop / "tiny.item", "title:", "name:"), "no column 'title'"),
        (lambda shop: shutil.rmtree(shop / "images"), "no folder"),
        (lambda shop: change(shop / "tiny.item", "\ni", "\nx", 30), "the ids are not the same"),
        (shutil.rmtree, "does not exist"),
    ],
)
def test_what_would_end_a_run_is_an_error(checked, shop, spoil, message):
    spoil(shop)
    findings = checked()
    with pytest.raises(PerPEFTError):
        quick_start.prepare(tiny_config(shop.parent))
    assert [text for text in of_kind(findings, "error") if message in text], of_kind(findings, "error")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"user_inter_num_interval": "[50,inf)"}, "user_inter_num_interval: [50,inf)"),
        ({"num_groups": 41}, "num_groups: 41 is more than the 40 users"),
        ({"topk": [31], "valid_metric": "NDCG@31"}, "topk: 31 is more than the 30 items"),
        ({"text_template": "{titel}"}, "titel"),
        ({"encoder": "nowhere", "modalities": ["image"]}, "encoder: 'nowhere'"),
        ({"text_encoder": "clip"}, "text_encoder: "),
        ({"text_encoder": "clip"}, "needs encoder or image_encoder"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_errors(checked, shop, settings, message):
    with pytest.raises(PerPEFTError):
        quick_start.prepare(tiny_config(shop.parent, **settings))
    assert [text for text in of_kind(checked(**settings), "error") if message in text]


def test_what_filters_take_is_told_and_most_of_the_users_is_a_warning(checked):
    findings = checked(user_inter_num_interval="[8,inf)")
    said = [text for name, rows in findings.sections.items() if name.startswith("As a run") for _, text in rows]
    assert [text for text in said if text.startswith("user_inter_num_interval: [8,inf) took")]
    assert [text for text in of_kind(findings, "warning") if "more than half of the users" in text]


def test_items_that_look_alike_are_told(checked, shop):
    for number in range(6):
        shutil.copyfile(shop / "images" / "i9.png", shop / "images" / f"i{number}.png")
    rename(shop, lambda row: "Socks, black" if row <= 6 else None)
    shutil.copyfile(shop / "images" / "i20.png", shop / "images" / "i20.jpg")
    Image.new("RGB", (30, 30)).save(shop / "images" / "stray.png")
    findings = checked()
    assert of_kind(findings, "error") == []
    warnings = of_kind(findings, "warning")
    assert [
        text for text in warnings if "6 of 30 items have the text of another item, 6 of them 'Socks, black'" in text
    ]
    assert [text for text in warnings if "7 of 30 items have the picture" in text]
    assert [text for text in warnings if "1 items have several pictures" in text and "Of i20.jpg, i20.png the" in text]
    assert figures(findings, "Pictures")["of no item"] == "1 of 32 files"
    assert figures(findings, "Titles")["like another item's"] == "6 of 30"


def test_texts_are_counted_in_tokens_and_those_that_are_cut(checked, shop):
    rename(shop, lambda row: f"{'red ' * 40}{row}" if row <= 10 else None)
    findings = checked(max_text_length=12)
    assert "10 of 30 are cut at 12" in figures(findings, "Titles")["tokens"]
    assert sum(length > 12 for length in findings.lengths["tokens of a text"]) == 10
    (warning,) = of_kind(findings, "warning")
    assert "10 of 30 texts are longer than the 12 tokens" in warning


def test_parts_of_a_split_of_ones_own_are_read_together(shop):
    lines = (shop / "tiny.inter").read_text().splitlines()
    for number, part in enumerate(("a", "b", "c")):
        (shop / f"tiny.{part}.inter").write_text("\n".join([lines[0], *lines[1 + number :: 3]]) + "\n")
    findings = check_data(tiny_config(shop.parent, "BPR", benchmark_filename=["a", "b", "c"]))
    assert of_kind(findings, "error") == []
    assert figures(findings, "Purchases")["users"] == "40"
    assert figures(findings, "Purchases")["purchases"].startswith(f"{len(lines) - 1}, ")


def test_the_item_file_is_looked_at_for_a_model_that_does_not_read_it(checked, shop):
    change(shop / "tiny.item", "\ni3\t", "\nj3\t")
    findings = checked(model="SASRec")
    assert not [text for text in of_kind(findings, "warning") if "tiny.item" in text]
    assert figures(findings, "Items")["bought, without a line"] == "1 of 30: 'i3'"
    change(shop / "tiny.item", "\nj3\t", "\nj3\tmore\tand more\t")
    findings = checked(model="SASRec")
    assert of_kind(findings, "error") == []
    assert [text for text in of_kind(findings, "warning") if "columns where the header has 3" in text]


@pytest.mark.parametrize("model", ["PerPEFTBPR", "ContentNeighbours", "GRU4Rec", "DIEN", "Pop", "LightGCN"])
def test_models_of_every_kind(checked, model):
    findings = checked(model=model)
    assert of_kind(findings, "error") == []
    assert figures(findings, "As a run reads them")["the log says"].startswith("Left after filtering: 40 users")


def test_the_docs_show_what_the_command_says_of_the_demo(monkeypatch):
    monkeypatch.chdir(ROOT)
    said = as_text(check_data(Config(dataset="demo", config_dict={"show_progress": False}))).splitlines()
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(Purchases .*?)```", page, re.DOTALL)
    for line in shown.splitlines():
        assert line == "..." or line in said


def test_features_that_are_given_are_checked_in_place_of_titles_and_pictures(checked, shop):
    rows = len((shop / "tiny.item").read_text(encoding="utf-8").splitlines()) - 1
    np.save(shop / "features.npy", np.ones((rows, 4), dtype=np.float32))
    settings = {"item_features": {"text": "features.npy"}, "modalities": ["text"], "peft_type": "NONE"}
    (shop / "images").rename(shop / "no_images")
    findings = checked(**settings)
    assert not of_kind(findings, "error")
    assert figures(findings, "Titles and pictures")["not read"] == "item_features are given"
    np.save(shop / "features.npy", np.ones((rows - 1, 4), dtype=np.float32))
    assert "features.npy" in "\n".join(of_kind(checked(**settings), "error"))
