"""The page of a check, and the command that writes it: words as words, pictures within, everything counted."""

import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from recbole_perpeft.__main__ import main
from recbole_perpeft.report.data_check.page import as_html
from recbole_perpeft.report.data_check.screen import verdict
from tests.browser import needs_browser, opened
from tests.report.data_check.conftest import rename
from tests.tiny_runs import tiny_config


class Page(HTMLParser):
    """What a browser makes of a page: tags, addresses and the words outside of styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.words, self.open = Counter(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_needs_no_other_file_and_shows_titles_as_words(checked, shop):
    evil = "<script>alert(1)</script> & \"quoted\" 'x' {title}"
    rename(shop, lambda row: evil)
    for picture in ("i0.png", "i1.png"):
        (shop / "images" / picture).write_bytes(b"<img onerror=x>")
    findings = checked(missing_content="neutral")
    text = as_html(findings)
    page = Page(text)
    assert page.open == []
    assert page.tags["script"] == 0
    assert page.tags["svg"] == 3
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "http" not in re.sub("http-equiv", "", text)
    assert page.tags["figure"] == len(findings.sample)
    assert page.words.count(evil) == 24
    assert verdict(findings) in page.words


_MEASURES = """<script>
addEventListener("load", () => {
  const loaded = [...document.images].filter(image => image.complete && image.naturalWidth > 0).length;
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  document.body.dataset.seen = `${loaded} of ${document.images.length} pictures` + (wide ? ", too wide" : "");
});
</script>"""


@needs_browser
@pytest.mark.slow
def test_a_browser_shows_the_page_with_its_pictures_and_nothing_is_wide_of_it(checked, shop, tmp_path):
    rename(shop, lambda row: "long" * 100 if row % 2 else "")
    (shop / "images" / "i3.png").write_bytes(b"no picture")
    findings = checked(missing_content="neutral")
    page = as_html(findings)
    allowed = page.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'", 1)  # to measure
    assert allowed != page
    (tmp_path / "page.html").write_text(allowed + _MEASURES, encoding="utf-8")
    page = (tmp_path / "page.html").as_uri()
    dom, said, _ = opened(page, tmp_path / "browser", width=600, height=800)
    assert said == []
    shown = sum(item.picture is not None and item.picture.name != "i3.png" for item in findings.sample)
    assert f'data-seen="{shown} of {shown} pictures"' in dom
    assert shown > 20


def test_histograms_count_everything(checked):
    findings = checked()
    findings.lengths = {"things": [1] * 98 + [2, 500]}
    titles = re.findall(r"<title>([\d,]+(?: to [\d,]+)?): (\d+)</title>", as_html(findings))
    assert titles[0] == ("1", "98")
    assert sum(int(count) for _, count in titles) == 100


def test_the_sample_is_the_same_for_every_run_of_a_sample_seed(checked):
    first, again, other = (checked(sample_seed=seed).sample for seed in (1, 1, 2))
    assert [item.item_id for item in first] == [item.item_id for item in again] != [item.item_id for item in other]
    assert len(first) == 24


def words(shop, **settings):
    given = tiny_config(shop.parent, **settings).external_config_dict
    kept = {key: value for key, value in given.items() if key not in ("model", "dataset")}
    return ["check", "--dataset=tiny", *(f"--{key}={'~' if value is None else value}" for key, value in kept.items())]


def test_the_command_ends_with_a_status_and_writes_the_page(shop, tmp_path, capsys):
    assert main([*words(shop), "--report", "page.html"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Data set tiny in ")
    assert said[-2:] == ["No errors, no warnings: a run can begin.", "Written: page.html"]
    assert Page((tmp_path / "page.html").read_text()).tags["img"] == 24
    (shop / "images" / "i5.png").unlink()
    assert main(words(shop)) == 1
    assert "ERROR    1 of 30 items have no picture" in capsys.readouterr().out
    assert main([*words(shop), "--num_grups=3"]) == 2
    assert main([*words(shop), "--report", "none/page.html"]) == 2
    assert "--report: none/page.html cannot be written" in capsys.readouterr().err
