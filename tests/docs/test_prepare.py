"""docs/prepare.md follows from the table of sources, and its commands are such as the program takes."""

import re
import runpy
import shlex

import pytest
import yaml

from recbole_perpeft.commands.prepare import parser
from recbole_perpeft.config.settings import known_settings
from recbole_perpeft.data.sources.registry import SOURCES
from tests.docs.pages import ROOT, blocks

PAGE = (ROOT / "docs/prepare.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(command)
    for block in blocks(PAGE, "bash")
    for command in block.replace("\\\n", " ").splitlines()
    if command.startswith("python ")
]
OURS = ["python", "-m", "recbole_perpeft", "prepare"]


def test_the_section_of_sources_is_made_anew_when_they_change():
    made = runpy.run_path(str(ROOT / "docs/make_prepare.py"))["page"](PAGE)
    assert made == PAGE, "Run python docs/make_prepare.py."


def test_commands_of_the_page_are_understood():
    known = known_settings()
    sources = set()
    for words in COMMANDS:
        if words[:4] == OURS:
            sources.add(parser().parse_args(words[4:]).source)
        else:
            assert words[1] == "run_recbole_perpeft.py"
            keys = {word.removeprefix("--").partition("=")[0] for word in words[2:]}
            assert keys <= known.keys()
    assert len(sources) > 3


@pytest.mark.parametrize("name", SOURCES)
def test_help_tells_what_a_source_reads(name, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args([name, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for argument in SOURCES[name].arguments:
        assert argument.name in said
    assert SOURCES[name].summary in said


def test_the_papers_data_sets_have_their_settings():
    names = re.findall(r"\| `(\w+)` \| `(amazon-\w+)` \|", PAGE)
    assert len(names) == 4
    for theirs, ours in names:
        file = (ROOT / "properties/dataset" / f"{ours}.yaml").read_text()
        assert yaml.safe_load(file) == {"text_fields": ["title"], "image_dir": "images"}
        assert f"prepare perpeft dataset {theirs} --out datasets --name {ours}" in file
