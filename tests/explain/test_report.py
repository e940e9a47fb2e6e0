"""The report: it opens offline, escapes what catalogues call their items, and says what it cannot show."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from recbole_perpeft.__main__ import main
from recbole_perpeft.explain.findings import GLOBAL, find
from recbole_perpeft.explain.movement import changes_of, relative
from recbole_perpeft.explain.report import Report, explain
from recbole_perpeft.explain.subject import open_subject
from recbole_perpeft.explain.users import UserLists, principal_components
from recbole_perpeft.explain.views import agreement, nearest, seen_most_differently
from recbole_perpeft.serving.bundle import write_bundle
from recbole_perpeft.trainer import checkpoint_file
from recbole_perpeft.utils.errors import RequestError
from tests.browser import is_blank, needs_browser, opened
from tests.training import same

pytest.importorskip("matplotlib")


class Page(HTMLParser):
    """Its tags, which must be closed in their order, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.assets, self.said, self._open = [], [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.assets += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)

    @property
    def text(self):
        return " ".join(self.said)


def written(subject, folder, **asked):
    """The page of a subject, and what was found."""
    found = find(subject, **asked, tell=lambda part: None)
    folder.mkdir(exist_ok=True)
    return Report(subject, found, folder).text("model.pth"), found


def test_a_report_with_groups(subject, tmp_path):
    of_model = subject()
    of_model.titles[1] = 'A <script>alert("1")</script> &amp; bag'
    text, found = written(of_model, tmp_path / "figures", items=[str(of_model.tokens[1])], users=["u7"])
    page = Page(text)
    assert all(asset.startswith(("data:image/", "#")) for asset in page.assets)
    assert "://" not in re.sub(r"data:image/\S+", "", text)
    assert "script" not in page.tags
    assert 'A <script>alert("1")</script> & bag' in page.text
    for name in ("groups_map", "item_1_title", "item_1_picture", "modules"):
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            picture.verify()
    views = ["group 0", "group 1", "group 2", GLOBAL]
    (each,) = found.items
    assert each.item == 1
    assert list(each.of_tokens) == list(each.of_patches) == list(each.nearest) == views
    (lists,) = found.users
    assert (lists.group, len(lists.held_out)) == (int(of_model.groups_of_users[lists.user]), 1)
    assert {GLOBAL, f"own module (group {lists.group})"} < lists.lists.keys()
    assert sum(group.users for group in found.groups) == 40
    assert sum(group.purchases for group in found.groups) == sum(map(len, of_model.sequences.values()))
    for unknown in ({"items": ["i99"]}, {"users": ["u99"]}):
        with pytest.raises(RequestError, match="Unknown (item 'i99'|user 'u99')"):
            find(of_model, **unknown)
    # the model is as it was
    again = find(of_model, users=["u7"], tell=lambda part: None).users[0]
    assert (again.lists, again.ranks) == (lists.lists, lists.ranks)


def test_lists_and_ranks_are_those_of_the_modules(subject):
    of_model = subject(soft_groups=False)
    lists = find(of_model, users=["u5"], tell=lambda part: None).users[0]
    user, model = "u5", of_model.model
    scores = of_model.recommender.scores([user])[0]
    scores[[0, *lists.history]] = -torch.inf
    own = f"own module (group {lists.group})"
    best = lists.lists[own]
    assert best == scores.topk(len(best)).indices.tolist()
    assert lists.ranks[own] == 1 + int((scores > scores[lists.held_out[0]]).sum())
    (other,) = (name for name in lists.lists if name not in (own, GLOBAL))
    number = int(re.search(r"\d", other)[0])
    model.user_groups.fill_(number)  # whoever is in that group is scored so
    moved = of_model.recommender.scores([user])[0]
    moved[[0, *lists.history]] = -torch.inf
    assert lists.lists[other] == moved.topk(len(best)).indices.tolist()
    assert best != lists.lists[other]


def test_movement_is_that_of_the_merged_weights(subject):
    of_model = subject()
    found = find(of_model, tell=lambda part: None)
    layer = found.layers[0]
    module = of_model.encoder.foundation.model.get_submodule(layer)

    def merged(name):
        return module.lora_B[name].weight @ module.lora_A[name].weight * module.scaling[name]

    own = merged("group_2").detach().clone()
    with of_model.stage_1_in_use():
        start = merged("group_0").detach().clone()
    assert found.movement[2, 0] == pytest.approx(float((own - start).norm() / start.norm()), rel=1e-5)
    assert found.movement.shape == (3, len(found.layers))
    assert len(found.layers) == 8  # two towers of two layers, q and v of each


def test_movement_of_side_networks_is_that_of_their_parameters(subject):
    of_model = subject(peft_type="IISAN", peft_config={"bottleneck": 4})
    with of_model.stage_1_in_use():
        start = changes_of(of_model.encoder, 0)
    own = changes_of(of_model.encoder, 1)
    values = sum(parameter.numel() for _, parameter in of_model.encoder.adapter_parameters(1))
    assert sum(map(len, own.values())) == values
    by_hand = [float((own[name] - start[name]).norm() / start[name].norm()) for name in start]
    assert relative(own, start) == pytest.approx(by_hand)


def test_views_of_items_by_hand():
    rng = np.random.default_rng(0)
    vectors = [torch.nn.functional.normalize(torch.tensor(rng.normal(size=(6, 4))), dim=1) for _ in range(3)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [np.mean([float(vectors[a][item] @ vectors[b][item]) for a, b in pairs]) for item in range(6)]
    assert agreement(vectors) == pytest.approx(expected)
    known = np.array([2, 3, 5])
    least, second, last = sorted(known, key=lambda item: expected[item])
    assert seen_most_differently(vectors, known, None, 2) == [least, second]
    titles = ["same" if item in (least, second) else str(item) for item in range(6)]
    assert seen_most_differently(vectors, known, titles, 2) == [least, last]
    cosines = vectors[0] @ vectors[0][3]
    assert [item for item, _ in nearest(vectors[0], 3, 2)] == [
        item for item in cosines.argsort(descending=True).tolist() if item not in (0, 3)
    ][:2]


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    rows = np.random.default_rng(0).normal(size=(50, 5)) * [3, 1, 2, 0.1, 0.5]
    points, shares = principal_components(rows)
    theirs = PCA(2).fit(rows)
    assert np.abs(points) == pytest.approx(np.abs(theirs.transform(rows)))
    assert shares == pytest.approx(theirs.explained_variance_ratio_)


def test_ranks_count_what_scores_more():
    lists = UserLists(1, None, [], [2])
    lists.add("model", torch.tensor([-torch.inf, 0.5, 0.4, 0.9, -torch.inf]), 3)
    assert (lists.lists["model"], lists.ranks["model"]) == ([3, 1, 2], 3)


@pytest.mark.parametrize(
    ("settings", "sections", "says"),
    [
        ({"peft_type": "NONE", "peft_config": None}, ["Groups", "Items", "Users", "Not shown"], "peft_type NONE"),
        ({"model": "PerPEFTBPR"}, ["Groups", "Items", "Users", "Modules"], "group 2"),
        ({"personalised_by": "group_projector"}, ["Groups", "Items", "Users", "Not shown"], "there is one for all"),
    ],
)
def test_what_does_not_apply_is_named(subject, tmp_path, settings, sections, says):
    text, _ = written(subject(**settings), tmp_path / "figures", items=["i3"])
    assert re.findall(r"<h2 [^>]*>([^<]+)", text) == sections
    assert says in Page(text).text


def test_features_that_are_given(subject, tiny_root, tmp_path):
    np.save(tiny_root / "tiny" / "given.npy", np.random.default_rng(0).normal(size=(30, 6)))
    given = {"item_features": {"text": "given.npy"}, "modalities": ["text"], "peft_type": "NONE", "peft_config": None}
    text, found = written(subject(**given, encoder=None), tmp_path / "figures", items=["i3"])
    assert "peft_type NONE" in Page(text).text
    assert list(found.items[0].nearest) == ["group 0", "group 1", "group 2", GLOBAL]


@pytest.fixture
def file(recorded):
    run = recorded(seed=1, l2_emb=0.1)  # whose groups pay
    return str(run.checkpoint(run.validated[-1]))


def test_the_command(file, tmp_path, capsys):
    assert main(["explain", file, "--out", "explained", "--item", "i2", "--user", "u3"]) == 0
    assert "Written: explained/report.html" in capsys.readouterr().out
    text = Page((tmp_path / "explained" / "report.html").read_text()).text
    for part in ("user u3", "item i2", "global (stage 1)", "Modules", "PerPEFTSASRec"):
        assert part in text


def test_one_module_for_all_and_models_of_recbole(recorded, prepare, tmp_path, capsys):
    alone = recorded(num_groups=1, epochs=2)
    assert main(["explain", str(alone.checkpoint(alone.validated[-1])), "--out", "one"]) == 0
    text = Page((tmp_path / "one" / "report.html").read_text()).text
    assert "all users have one module" in text
    assert "Attention over the title" in text
    _, trainer, *loaders = prepare(model="SASRec", loss_type="CE", epochs=1)
    trainer.fit(loaders[0], loaders[1], verbose=False, saved=True)
    assert main(["explain", trainer.saved_model_file, "--out", "theirs"]) == 0
    text = Page((tmp_path / "theirs" / "report.html").read_text()).text
    assert "PerPEFT models have them, and SASRec is none" in text
    assert "held out" in text


def test_of_a_bundle_all_is_shown_but_what_its_checkpoint_alone_knows(file, tmp_path, capsys):
    write_bundle(file, tmp_path / "bundle")
    own = open_subject("bundle"), open_subject(file)
    found = [find(subject, ["i2"], ["u3"], lambda part: None) for subject in own]
    for of_bundle, of_file in zip(*(each.items for each in found), strict=True):
        assert of_bundle.nearest == {name: near for name, near in of_file.nearest.items() if name != GLOBAL}
    assert found[0].groups == found[1].groups
    assert own[0].titles == own[1].titles
    assert main(["explain", "bundle", "--out", "explained", "--item", "i2", "--user", "u3"]) == 0
    shown, _, left_out = Page((tmp_path / "explained" / "report.html").read_text()).text.rpartition("Not shown")
    assert "bundle bundle" in shown
    assert "training purchases" in shown
    assert "Attention over" not in shown
    for part in ("Attention", "Pictures", "The global module"):
        assert f"{part}: " in left_out


def test_a_folder_that_is_no_bundle_is_refused(tmp_path, capsys):
    assert main(["explain", str(tmp_path), "--out", str(tmp_path / "explained")]) == 2
    assert "is no bundle" in capsys.readouterr().err


def test_groups_that_did_not_pay_are_shown_as_they_ended(file):
    state = checkpoint_file.read(file)
    assert state["best_epoch"] >= 2  # of stage 3
    of_stage_3 = open_subject(file)
    assert not of_stage_3.remarks
    state |= {"best_epoch": 1, "state_dict": state["stage_1_state_dict"]}
    checkpoint_file.write(file, state)
    found = open_subject(file)
    assert "stood after the last epoch (3)" in found.remarks[0]
    assert same(found.model.state_dict(), state["last_state_dict"])
    with found.stage_1_in_use():
        assert same(found.model.state_dict(), state["stage_1_state_dict"])
    del state["stage_1_state_dict"]
    checkpoint_file.write(file, {**state, "best_epoch": 2})
    assert not open_subject(file).has_stage_1


@pytest.mark.slow
@needs_browser
def test_the_page_in_a_browser_shows_its_pictures_and_says_nothing(subject, tmp_path):
    text, _ = written(subject(), tmp_path / "figures")
    count = "for (const i of document.images) i.dataset.width = i.naturalWidth"  # for which the page lets a script run
    text = text.replace("style-src", "script-src 'unsafe-inline'; style-src", 1)
    (tmp_path / "report.html").write_text(f"{text}<script>onload = () => {{ {count} }}</script>")
    dom, said, photograph = opened(f"file://{tmp_path / 'report.html'}", tmp_path / "browser")
    assert said == []
    assert not is_blank(photograph)
    assert photograph.std(axis=-1).max() > 20  # pictures have colours, which the page itself hardly has
    widths = [int(width) for width in re.findall(r'<img[^>]* data-width="(\d+)"', dom)]
    assert len(widths) == text.count("<img") > 10
    assert min(widths) > 0


def test_a_report_that_is_not_finished_leaves_the_old_one_whole(file, tmp_path, capsys):
    out = tmp_path / "explained"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "own.png").write_text("a figure of somebody else")
    (out / "report.html").write_text("the old one")

    def files():
        return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def stop(part):
        if part == "the report":
            raise KeyboardInterrupt

    before = files()
    with pytest.raises(RequestError, match="Unknown item 'nobody'"):
        explain(file, out, items=["nobody"], tell=stop)
    with pytest.raises(KeyboardInterrupt):
        explain(file, out, tell=stop)
    assert files() == before
    assert main(["explain", file, "--out", str(out)]) == 0
    assert len(list((out / "figures").glob("item_*.png"))) == 6
    assert (out / "figures" / "own.png").read_text() == "a figure of somebody else"
    assert "PerPEFTSASRec" in (out / "report.html").read_text()
    assert main(["explain", file, "--out", str(out / "report.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err
