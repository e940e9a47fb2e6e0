"""Every page's links, the files that it names, and its size."""

import re

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, prose

# folders that a run or the reader makes
_OF_A_RUN = {"logs/", "claims/", "log_tensorboard/", "stage_1/", "runs/", "images/", "models/"}
_NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=_NAMES)
def test_relative_links_and_anchors_lead_somewhere(page):
    for link in links(page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {target}"
        assert target.is_relative_to(ROOT), f"{link} leaves the project"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{link}: no heading is called so"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_files_that_pages_name_exist(page):
    """Of the changelog nothing is asked: it names what was, too."""
    package = ROOT / "recbole_perpeft"
    folders = [ROOT, package, ROOT / "properties", *(path for path in package.iterdir() if path.is_dir())]
    text = prose(page.read_text(encoding="utf-8")) if page.name != "changelog.md" else ""
    for name in re.findall(r"`([\w./-]+/[\w-]+\.(?:py|yaml)|[\w./-]+/)`", text):
        if name not in _OF_A_RUN:
            assert any((folder / name).exists() for folder in folders), name


def test_architecture_names_every_room_and_its_files():
    rows = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").splitlines()
    rows = {match[1]: row for row in rows if (match := re.match(r"\| \d+ \| `(\w+)/` \|", row))}
    package = ROOT / "recbole_perpeft"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert set(rows) == rooms
    for room, row in rows.items():
        for name in re.findall(r"`(\w+\.py)`", row):
            assert (package / room / name).is_file(), f"{room}/{name}"


def test_the_index_has_every_page():
    listed = {
        link for link in links((ROOT / "docs/index.md").read_text(encoding="utf-8")) if re.fullmatch(r"\w+\.md", link)
    }
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}


@pytest.mark.parametrize(("page", "most"), [("README.md", 10_000), ("benchmarks/README.md", 8_192)])
def test_entrances_stay_short(page, most):
    assert (ROOT / page).stat().st_size < most
